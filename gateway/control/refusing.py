"""What the desk of commands refuses by itself, and how a halt becomes the answer to whoever asked. Pure."""

from __future__ import annotations

from api.commanding import CommandRefused
from gateway.control.carrying import Halt
from gateway.control.facts import halt
from gateway.control.ledger import LedgerFailed


def reused() -> Halt:
    """A key that came with something else before."""
    return halt("key_reused", "this Idempotency-Key came with another request before")


def no_ledger(error: LedgerFailed) -> Halt:
    """Nothing is begun that cannot be kept."""
    return halt("ledger_unavailable", error.reason)


def refusal(found: Halt) -> CommandRefused:
    """A halt as it is raised, of what is not kept."""
    return CommandRefused(found.code, found.reason, found.hint, retry_after_s=found.retry_after_s)
