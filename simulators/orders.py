"""What a plant can be asked to do while it runs, by a scenario step, a line on standard input or a client's
write.

Values only, judged when they are read: an order that exists can be carried out, or refused by the machine it
is for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from simulators.maps import SERVERS
from simulators.modbus_server import WRONGS
from simulators.plant import EQUIPMENT

STATUSES: Final[dict[str, int]] = {
    "BadDeviceFailure": 0x808B0000,
    "BadSensorFailure": 0x808C0000,
    "BadNotConnected": 0x808A0000,
    "BadOutOfService": 0x808D0000,
    "BadNoCommunication": 0x80310000,
    "BadWaitingForInitialData": 0x80320000,
    "BadConfigurationError": 0x80890000,
    "BadCommunicationError": 0x80050000,
    "UncertainLastUsableValue": 0x40900000,
    "UncertainSensorNotAccurate": 0x40930000,
    "UncertainSubNormal": 0x40950000,
}
"""OPC UA status codes a `bad_quality` fault can give."""

_ANY, _OPCUA, _MODBUS = ("opcua", "modbus"), ("opcua",), ("modbus",)
FAULTS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "drop": (_ANY, ()),
    "freeze": (_ANY, ()),
    "late": (_ANY, ("delay_s",)),
    "exceptions": (_MODBUS, ("code",)),
    "wrong": (_MODBUS, ("how",)),
    "bad_quality": (_OPCUA, ("nodes", "status")),
    "lost_answers": (_ANY, ("share",)),
    "late_answers": (_ANY, ("share", "delay_s")),
    "cut_answers": (_ANY, ("share",)),
    "ignored_writes": (_ANY, ("share",)),
    "deaf": (_ANY, ()),
    "keep_request": (_ANY, ()),
}
"""Each kind of fault: the protocols it exists for, and its own settings."""

WRITE_FAULTS: Final = (
    *("lost_answers", "late_answers", "cut_answers", "ignored_writes", "deaf", "keep_request"),
)
"""Those that concern what clients write, and nothing else."""

EXCEPTION_CODES: Final = (1, 2, 3, 4, 5, 6, 7, 8, 10, 11)
_FAULT_KEYS: Final = ("fault", "server", "seconds")
_SPAN_S_MAX: Final = 365 * 86400


class OrderError(ValueError):
    """An order cannot be understood; every reason is listed."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong at one server for `seconds` of wall time (None: until it is cleared)."""

    kind: str
    server: str
    seconds: float | None = None
    delay_s: float = 0.5
    """`late`, `late_answers`: how long an answer is held back."""
    code: int = 4
    """`exceptions`: the Modbus exception code."""
    how: str = "transaction"
    """`wrong`: what is wrong with every answer."""
    nodes: tuple[str, ...] = ()
    """`bad_quality`: node names such as `Filler.StateCurrent`; none means all of the server."""
    status: str = "BadDeviceFailure"
    """`bad_quality`: the status code's name."""
    share: float = 0.3
    """`lost_answers` and the other faults of some writes: which share of them is hit."""


@dataclass(frozen=True, slots=True)
class Clear:
    """End the faults of one server (or all) now."""

    server: str | None


@dataclass(frozen=True, slots=True)
class Command:
    """An operator's command to one machine."""

    equipment: str
    word: str


@dataclass(frozen=True, slots=True)
class Adjust:
    """A set point a client wrote for one machine."""

    equipment: str
    tag: str
    value: float


@dataclass(frozen=True, slots=True)
class Randomness:
    """Let one machine (or all) decide for itself, or stop doing so."""

    on: bool
    equipment: str | None = None


@dataclass(frozen=True, slots=True)
class Go:
    """Set a plant going that waits for it (`Options.wait_for_go`)."""


@dataclass(frozen=True, slots=True)
class Quit:
    """Stop the simulator."""


Order = Fault | Clear | Command | Adjust | Randomness | Go | Quit


def read_order(raw: Mapping[str, object]) -> Order:
    """Read one order: one of the keys fault, clear, command, random, go, quit, and its settings.

    Raises:
        OrderError: with every reason.
    """
    if "fault" in raw:
        return _read_fault(raw)
    if "command" in raw:
        _refuse_unknown(raw, ("command", "equipment"))
        return Command(_equipment(raw), _text(raw, "command"))
    if "random" in raw:
        _refuse_unknown(raw, ("random", "equipment"))
        if not isinstance(raw["random"], bool):
            raise OrderError(("random must be true or false",))
        return Randomness(raw["random"], _equipment(raw) if "equipment" in raw else None)
    if "clear" in raw:
        _refuse_unknown(raw, ("clear",))
        server = _text(raw, "clear")
        if server not in (*SERVERS, "all"):
            raise OrderError(
                (f'clear: there is no server "{server}"; there are {", ".join(SERVERS)}, and all',)
            )
        return Clear(None if server == "all" else server)
    for key, order in (("go", Go()), ("quit", Quit())):
        if raw.get(key) is True:
            _refuse_unknown(raw, (key,))
            return order
    raise OrderError(("an order needs one of fault, clear, command, random, go, quit",))


def _read_fault(raw: Mapping[str, object]) -> Fault:
    kind, server = _text(raw, "fault"), _text(raw, "server")
    if kind not in FAULTS:
        raise OrderError((f'there is no fault "{kind}"; there are {", ".join(FAULTS)}',))
    if server not in SERVERS:
        raise OrderError((f'there is no server "{server}"; there are {", ".join(SERVERS)}',))
    families, keys = FAULTS[kind]
    problems: list[str] = []
    if server.split("-")[0] not in families:
        problems.append(f'the fault "{kind}" exists for {families[0]} servers only, {server} is not one')
    for key in raw:
        if key not in (*_FAULT_KEYS, *keys):
            known = ", ".join(keys) or "no settings of its own"
            problems.append(f'the fault "{kind}" has no setting "{key}"; it has {known}')
    for key, (is_right, what) in _SETTINGS.items():
        if key in raw and not is_right(raw[key]):
            problems.append(f"{key} must be {what}")
    if problems:
        raise OrderError(tuple(problems))
    settings: dict[str, Any] = {key: raw[key] for key in ("seconds", *keys) if key in raw}
    settings["nodes"] = tuple(settings.get("nodes", ()))
    return Fault(kind, server, **settings)


def _is_span(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _SPAN_S_MAX


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


def _is_one_of(*allowed: object) -> Callable[[object], bool]:
    return lambda value: any(type(value) is type(choice) and value == choice for choice in allowed)


def _are_names(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)


_SETTINGS: Final[dict[str, tuple[Callable[[object], bool], str]]] = {
    "seconds": (_is_span, "a number above 0"),
    "delay_s": (_is_span, "a number of seconds above 0"),
    "code": (_is_one_of(*EXCEPTION_CODES), f"one of {', '.join(map(str, EXCEPTION_CODES))}"),
    "how": (_is_one_of(*WRONGS), f"one of {', '.join(WRONGS)}"),
    "status": (_is_one_of(*STATUSES), f"one of {', '.join(STATUSES)}"),
    "share": (_is_share, "a number above 0, 1 at most"),
    "nodes": (_are_names, 'a list of names such as "Filler.StateCurrent"'),
}


def _text(raw: Mapping[str, object], key: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str):
        raise OrderError((f"{key} must be given, as text",))
    return value


def _equipment(raw: Mapping[str, object]) -> str:
    name = _text(raw, "equipment")
    if name not in EQUIPMENT:
        raise OrderError((f'there is no equipment "{name}"; there are {", ".join(EQUIPMENT)}',))
    return name


def _refuse_unknown(raw: Mapping[str, object], known: tuple[str, ...]) -> None:
    unknown = [key for key in raw if key not in known]
    if unknown:
        raise OrderError(tuple(f'unknown key "{key}"; this order has {", ".join(known)}' for key in unknown))
