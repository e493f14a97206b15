"""Passwords hashed in threads, only so many at once: who guesses cannot stop the gateway, and places are kept
for those who are known.

Argon2id (RFC 9106) with 46 MiB and two passes: some 60 ms of one core. Knows no user.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import NamedTuple, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from gateway.access.passwords import normal

#: Hashes made at once, and those that may wait for it; one more is refused.
AT_ONCE, WAITING_MAX = 2, 16
#: And those that may wait besides, for who is known: strangers cannot take these places.
KEPT_MAX = 6
_T = TypeVar("_T")


class Cost(NamedTuple):
    """What a hash costs: memory in KiB, and how often it is gone over."""

    memory_kib: int = 47_104
    passes: int = 2


class TooManyAtOnce(Exception):
    """Others wait already; try again in a moment."""


class Match(NamedTuple):
    """Whether a password is the one of a hash, and whether the hash has another cost than new ones."""

    right: bool
    outdated: bool = False


class Hashing:
    """Hashes and compares. `close` lets go of the threads."""

    def __init__(
        self, cost: Cost | None = None, *, at_once: int = AT_ONCE, waiting_max: int = WAITING_MAX
    ) -> None:
        cost = cost or Cost()
        self._argon2 = PasswordHasher(time_cost=cost.passes, memory_cost=cost.memory_kib, parallelism=1)
        self._threads = ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="password")
        self._pending_max = at_once + waiting_max
        self._pending = 0

    @cached_property
    def _nobody(self) -> str:
        """Compared with where there is no such user, so that the answer takes as long. Nobody's password."""
        return self._argon2.hash("nobody has this password")

    def hash_now(self, password: str) -> str:
        """The hash of a password, in this thread."""
        return self._argon2.hash(normal(password))

    def is_full(self, *, known: bool) -> bool:
        """Whether one more would be refused, for somebody known or for a stranger."""
        return self._pending >= self._pending_max + (KEPT_MAX if known else 0)

    async def hash(self, password: str) -> str:
        """The hash of a password; only who is let in already sets one.

        Raises:
            TooManyAtOnce: too many wait already.
        """
        return await self._aside(lambda: self.hash_now(password), known=True)

    async def compare(self, password: str, hash_: str | None, *, known: bool = False) -> Match:
        """Whether it is the password of a hash; None is nobody's, and takes as long. `known` is who has a
        place kept.

        Raises:
            TooManyAtOnce: too many wait already.
        """
        return await self._aside(lambda: self._compare(password, hash_), known=known)

    def _compare(self, password: str, hash_: str | None) -> Match:
        nobody = self._nobody  # made at the first comparison, whoever it is for
        try:
            self._argon2.verify(hash_ or nobody, normal(password))
        except (VerifyMismatchError, VerificationError, InvalidHashError):
            return Match(False)
        return Match(hash_ is not None, hash_ is not None and self._argon2.check_needs_rehash(hash_))

    async def _aside(self, work: Callable[[], _T], *, known: bool) -> _T:
        if self.is_full(known=known):
            raise TooManyAtOnce
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._pending -= 1

    def close(self) -> None:
        """Let go of the threads; what has begun ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
