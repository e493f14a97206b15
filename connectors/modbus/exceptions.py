"""What each Modbus exception code means for the tags that were asked for. A table, and its default."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Reaction(Enum):
    """What to do about an exception."""

    SEARCH = "find the tags it is about, and set them aside"
    SET_ASIDE = "set all tags of the request aside"
    BAD = "the tags are bad; read again next cycle"
    BAD_AND_REST = "the tags are bad; read again after a growing pause"
    REST = "read again after a growing pause; the tags are bad when it goes on"


@dataclass(frozen=True, slots=True)
class Meaning:
    """Name of the exception, substatus of the bad samples, reaction. `from_device` is proof of its life."""

    name: str
    substatus: str
    reaction: Reaction
    from_device: bool = True


#: Application Protocol V1.1b3, section 7; 7 is of older editions.
MEANINGS = {
    1: Meaning("illegal function", "configuration_error", Reaction.SET_ASIDE),
    2: Meaning("illegal data address", "configuration_error", Reaction.SEARCH),
    3: Meaning("illegal data value", "configuration_error", Reaction.SEARCH),
    4: Meaning("device failure", "device_failure", Reaction.BAD),
    5: Meaning("acknowledged, not done yet", "busy", Reaction.REST),
    6: Meaning("device busy", "busy", Reaction.REST),
    7: Meaning("negative acknowledge", "device_failure", Reaction.BAD),
    8: Meaning("memory parity error", "device_failure", Reaction.BAD),
    10: Meaning("gateway path unavailable", "no_communication", Reaction.BAD_AND_REST, from_device=False),
    11: Meaning("gateway target did not respond", "no_communication", Reaction.REST, from_device=False),
}


def meaning_of(code: int) -> Meaning:
    """What an exception code means; a code of nobody's is a failure of the device."""
    return MEANINGS.get(code) or Meaning("unknown exception", "device_failure", Reaction.BAD)
