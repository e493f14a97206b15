"""What a broker's reason code means for us: try again, wait longer, call a person, or keep away. Pure tables.

Codes and names: MQTT 5.0 section 2.4. MQTT 3.1.1 return codes arrive here already as their MQTT 5 twins.
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.errors import SinkRefused, SinkUnavailable

#: In a hint: where people set all this. No section and no name of a broker can hold it, see `at`.
SECTION = "<section>"

CREDENTIALS = f"check user and password in {SECTION}, and who the broker lets in"
RIGHTS = "let this client publish to its topics in the broker's access rules"


class TakenOver(SinkRefused):
    """Somebody else connected with our client id. Keep away for long: two that fight serve nobody."""


class ClosedByBroker(SinkUnavailable):
    """The broker accepted us and then closed the connection without a word: it died, or does not want us."""


class Overloaded(SinkUnavailable):
    """The broker has too much to do, or we ask too much of it. Coming back at once makes it worse."""


class Renewed(SinkUnavailable):
    """Our own certificate files are new: connect again at once, with them. Nothing is wrong."""


class MessageRefused(NamedTuple):
    """The broker refused one message and goes on taking others. Whether to say it again is its owner's."""

    topic: str
    code: int
    """Reason code of the PUBACK or PUBREC, 0x80 or more."""
    reason: str
    hint: str


#: Codes a person has to deal with: what the broker means, and what to do.
NEEDS_A_PERSON: dict[int, tuple[str, str]] = {
    0x84: ("it does not speak this version of MQTT", f'set protocol = "3.1.1" in {SECTION}'),
    0x85: ("it does not accept the client id", f"set another client_id in {SECTION}"),
    0x86: ("bad user name or password", CREDENTIALS),
    0x87: ("not authorised", RIGHTS),
    0x8A: ("this client is banned", "ask whoever runs the broker"),
    0x8C: ("bad authentication method", CREDENTIALS),
    0x8F: ("it does not accept the topic filter", "ask whoever runs the broker which topics it has"),
    0x90: ("it does not accept the topic", "check enterprise, site and the paths of the equipment"),
    0x99: ("it does not accept the payload format", "ask whoever runs the broker"),
    0x9A: ("it does not keep retained messages", "allow retained messages in the broker; states need them"),
    0x9B: ("it does not support QoS 1", "allow QoS 1 in the broker; nothing else tells what arrived"),
    0x9C: ("use another server", f"set the address of that server in {SECTION}"),
    0x9D: ("the server moved", f"set its new address in {SECTION}"),
    0x9E: ("it has no shared subscriptions", "ask whoever runs the broker"),
    0xA1: ("it has no subscription identifiers", "ask whoever runs the broker"),
    0xA2: ("it has no wildcard subscriptions", "ask whoever runs the broker"),
}

#: Codes that pass by themselves, and sooner when we keep away for a while.
OVERLOADED: dict[int, str] = {
    0x88: "server unavailable",
    0x89: "server busy",
    0x96: "message rate too high",
    0x97: "quota exceeded",
    0x9F: "connection rate exceeded",
}

#: Codes that pass by themselves.
PASSES: dict[int, str] = {
    0x80: "unspecified error",
    0x81: "malformed packet",
    0x82: "protocol error",
    0x83: "implementation specific error",
    0x8B: "server shutting down",
    0x8D: "keep-alive timeout",
    0x91: "packet identifier in use",
    0x92: "packet identifier not found",
    0x93: "receive maximum exceeded",
    0x94: "topic alias invalid",
    0x95: "packet too large",
    0x98: "administrative action",
    0xA0: "maximum connect time",
}

TAKEN_OVER = 0x8E

#: Refusals of a message that say nothing against that message: packet identifiers are out of step, so the
#: connection is of no use any more.
NOT_THE_MESSAGE = frozenset({0x91, 0x92, 0x93})

#: What to do about a client id in use twice.
OWN_ID = f"give every gateway an id of its own, or set client_id in {SECTION}"
#: For a broker that cannot say it: see `retry.KICKS_MAX`.
PROBABLY_TAKEN = (
    "the broker closes the connection again and again; another client probably uses our client id"
)
#: To a broker that does not speak the 3.1.1 that is asked for.
SPEAK_5 = f'set protocol = "5" in {SECTION}'


def at(hint: str, section: str) -> str:
    """The hint, with the section of the broker it is about; done twice it stays the same."""
    return hint.replace(SECTION, section)


def failure(
    code: int,
    doing: str,
    *,
    said: str = "",
    elsewhere: str = "",
    connecting: bool = False,
    v5: bool = True,
) -> SinkUnavailable | SinkRefused:
    """The failure a reason code of 0x80 or more stands for.

    `doing` is what was refused, such as `the connection`; `said` is the broker's own reason string,
    `elsewhere` the server it names instead of itself (Server Reference). `connecting`: we are not let in
    yet; to a wrong password many brokers answer "not authorised". `v5`: the version we speak.
    """
    own_words = f' ("{said}")' if said else ""
    if code == TAKEN_OVER:
        return TakenOver(
            f"another client connected to the broker with our client id{own_words}",
            hint=OWN_ID,
        )
    if code in NEEDS_A_PERSON:
        words, hint = NEEDS_A_PERSON[code]
        if connecting and hint is RIGHTS:
            hint = CREDENTIALS
        if code == 0x84 and not v5:
            hint = SPEAK_5
        named = f': "{elsewhere}"' if elsewhere else ""
        return SinkRefused(f"the broker refuses {doing}: {words}{named}{own_words}", hint=hint)
    if code in OVERLOADED:
        return Overloaded(f"the broker ends {doing}: {OVERLOADED[code]} (0x{code:02X}){own_words}")
    words = PASSES.get(code, "reason unknown")
    return SinkUnavailable(f"the broker ends {doing}: {words} (0x{code:02X}){own_words}")
