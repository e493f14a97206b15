"""Many logins at once, from many addresses: who is turned away, and who is not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from api.access import Denied
from gateway.access.hashing import AT_ONCE, KEPT_MAX, WAITING_MAX
from tests.gateway.access.house import GOOD, OTHER, House, opened

STRANGERS_MAX = AT_ONCE + WAITING_MAX


def flood(house: House) -> list[asyncio.Task[str]]:
    """Wrong passwords for ada, each from an address of its own: as many as are judged at once, and more."""
    return attempts(house, ((f"198.51.100.{number}", "ada", OTHER) for number in range(60)))


def attempts(house: House, of: Iterable[tuple[str, str, str]]) -> list[asyncio.Task[str]]:
    """What becomes of logins that all come now, in this order."""

    async def attempt(peer: str, name: str, password: str) -> str:
        try:
            await house.log_in(name, password, peer)
        except Denied as denied:
            return denied.code
        return "in"

    return [asyncio.create_task(attempt(*one)) for one in of]


async def test_who_logged_in_from_there_before_gets_in_whoever_floods(tmp_path: Path) -> None:
    async with opened(tmp_path, lock_after=100) as house:
        await house.add("ada")
        await house.add("bob")
        await house.log_in(peer="192.0.2.1")
        strangers = flood(house)
        others = attempts(
            house, [("192.0.2.1", "ada", GOOD), ("192.0.2.1", "bob", GOOD), ("192.0.2.2", "ada", GOOD)]
        )
        codes = await asyncio.gather(*strangers)
        assert codes.count("invalid_credentials") == STRANGERS_MAX
        assert codes.count("too_many_requests") == 60 - STRANGERS_MAX
        told = await asyncio.gather(*others)
        assert told == ["in", "too_many_requests", "too_many_requests"], "the name and the address, both"


async def test_the_places_kept_are_few_too(tmp_path: Path) -> None:
    async with opened(tmp_path, lock_after=100) as house:
        await house.add("ada")
        known = [f"192.0.2.{number}" for number in range(8)]
        for peer in known:
            await house.log_in(peer=peer)
        strangers = flood(house)
        told = await asyncio.gather(*attempts(house, ((peer, "ada", GOOD) for peer in known)))
        assert told == ["in"] * KEPT_MAX + ["too_many_requests"] * (8 - KEPT_MAX)
        await asyncio.gather(*strangers)


async def test_an_admin_sets_passwords_whoever_floods(tmp_path: Path) -> None:
    async with opened(tmp_path, lock_after=100) as house:
        await house.add("ada")
        strangers = flood(house)
        added = asyncio.create_task(house.add("bob"))
        assert (await asyncio.gather(*strangers)).count("too_many_requests") == 60 - STRANGERS_MAX
        await added
        await house.log_in("bob")
