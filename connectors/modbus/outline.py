"""What polling a Modbus device will cost: its requests, how long they take, what would make them fewer. Pure.

Over TCP a request costs the latency of network and device; its few hundred bytes are nothing beside that. On
a serial line they are most of it, and frames stand apart by 3.5 characters, above 19200 Bd by 1.75 ms (Modbus
over Serial Line V1.02, 2.5.1.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from connectors.modbus.config import ModbusSettings, SerialSettings
from connectors.modbus.layout import Signal
from connectors.modbus.plan import Limits, ReadRequest, plan_reads
from connectors.planned import PlannedConnection, PlannedGroup, PlannedRequest, duration_text

SILENCE_CHARACTERS = 3.5
SILENCE_FIXED_ABOVE_BAUD = 19200
SILENCE_FIXED_S = 0.001750
#: Unit, function, start, count, CRC; and unit, function, byte count, CRC around the values of the answer.
_RTU_REQUEST_BYTES = 8
_RTU_ANSWER_BYTES = 5
#: A colon, two characters for each byte with LRC in place of CRC, carriage return and line feed.
_ASCII_FRAME_CHARACTERS = 3
#: Gap budgets worth proposing, in registers.
_GAPS = (16, 32, 64, 123)
#: A change has to take away at least this share of the requests to be worth proposing.
_WORTH = 0.2


class Timing:
    """How long requests of a connection take."""

    def __init__(self, settings: ModbusSettings, latency_s: float) -> None:
        place = settings.place()
        self._each_s = latency_s + settings.limits.pause.total_seconds()
        self._ascii = place.framing == "ascii"
        self.open_max = place.pipeline
        """Requests that wait for their answers at the same time."""
        self.line = place.serial

    def cycle_s(self, requests: Sequence[ReadRequest]) -> float:
        """Of all of these, one after the other, or as many at once as the device allows."""
        return sum(self.request_s(request) for request in requests[:: self.open_max])

    def request_s(self, request: ReadRequest) -> float:
        """Of one request: the wait for its answer, the rest the device wants, the bytes where they count."""
        return self._each_s + self.wire_s(request)

    def wire_s(self, request: ReadRequest) -> float:
        """The bytes of request and answer and the silence after each; 0 over TCP."""
        if self.line is None:
            return 0.0
        payload = (request.count + 7) // 8 if request.table.of_bits else 2 * request.count
        sizes = (_RTU_REQUEST_BYTES, _RTU_ANSWER_BYTES + payload)
        if self._ascii:
            characters = sum(_ASCII_FRAME_CHARACTERS + 2 * (size - 1) for size in sizes)
            return characters * character_s(self.line)
        return sum(sizes) * character_s(self.line) + 2 * silence_s(self.line)


def character_s(line: SerialSettings) -> float:
    """Time of one character: a start bit, data, parity where there is one, stop bits. 11 bits by default."""
    return (1 + line.data_bits + (line.parity != "none") + line.stop_bits) / line.baud


def silence_s(line: SerialSettings) -> float:
    """Time between two RTU frames."""
    if line.baud > SILENCE_FIXED_ABOVE_BAUD:
        return SILENCE_FIXED_S
    return SILENCE_CHARACTERS * character_s(line)


def outline(settings: ModbusSettings, latency_s: float) -> PlannedConnection:
    """The plan of one connection at a latency, for `andon plan`."""
    timing, limits = Timing(settings, latency_s), settings.limits.for_plan()
    groups = []
    for group in settings.groups:
        signals = [tag.signal(settings.tag_id(tag)) for tag in group.tags]
        requests = plan_reads(signals, limits)
        cycle_s = timing.cycle_s(requests)
        groups.append(
            PlannedGroup(
                group.name,
                group.interval.total_seconds(),
                len(signals),
                tuple(_planned(request, timing) for request in requests),
                cycle_s,
                tuple(_remedies(signals, limits, timing, len(requests), cycle_s)),
            )
        )
    return PlannedConnection(
        settings.name,
        settings.protocol,
        f"{settings.endpoint}, unit {settings.unit}",
        tuple(groups),
        link=str(settings.place()),
        notes=tuple(_notes(settings, timing)),
    )


def _planned(request: ReadRequest, timing: Timing) -> PlannedRequest:
    unit = "bits" if request.table.of_bits else "registers"
    duration_s = timing.request_s(request)
    return PlannedRequest(
        str(request), request.count, unit, len(request.signals), request.needless_count, duration_s
    )


def _remedies(
    signals: Sequence[Signal], limits: Limits, timing: Timing, count: int, cycle_s: float
) -> Iterable[str]:
    """Settings that would make the cycle shorter, each tried by itself, with what it would come to."""
    if count < 2:
        return
    if limits.one_request_per_tag:
        fewer = plan_reads(signals, replace(limits, one_request_per_tag=False))
        yield from _proposal("one_request_per_tag = false", fewer, timing, count, cycle_s)
        return
    full = Limits()
    if limits.registers_per_request < full.registers_per_request:
        fewer = plan_reads(signals, replace(limits, registers_per_request=full.registers_per_request))
        wanted = f"registers_per_request = {full.registers_per_request}, if the device takes it"
        yield from _proposal(wanted, fewer, timing, count, cycle_s)
    found = []
    for gap in _GAPS:
        if gap > limits.gap_max:
            fewer = plan_reads(signals, replace(limits, gap_max=gap))
            found.append((timing.cycle_s(fewer), gap, fewer))
    if found:
        _, gap, fewer = min(found, key=lambda tried: tried[:2])
        yield from _proposal(f"gap_max = {gap}", fewer, timing, count, cycle_s)


def _proposal(
    change: str, requests: tuple[ReadRequest, ...], timing: Timing, count: int, cycle_s: float
) -> Iterable[str]:
    cycle_then_s = timing.cycle_s(requests)
    if cycle_then_s <= cycle_s * (1 - _WORTH):
        yield (
            f"set limits.{change} ({count} requests become {len(requests)}, "
            f"{duration_text(cycle_s)} become {duration_text(cycle_then_s)})"
        )


def _notes(settings: ModbusSettings, timing: Timing) -> Iterable[str]:
    if (line := timing.line) is not None:
        silence = "" if line.framing == "ascii" else f", {duration_text(silence_s(line))} between frames"
        yield f"serial line at {line.baud} Bd, {duration_text(character_s(line))} a character{silence}"
    if timing.open_max > 1:
        yield f"up to {timing.open_max} requests open at once"
    pause_s = settings.limits.pause.total_seconds()
    if pause_s:
        yield f"{duration_text(pause_s)} of rest after each answer"
    if settings.limits.forbidden:
        yield f"never read: {', '.join(settings.limits.forbidden)}"
    if settings.limits.one_request_per_tag:
        yield "one request for each tag"
