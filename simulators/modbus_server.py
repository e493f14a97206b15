"""A Modbus TCP server for the plant's registers, written from the standard rather than with a Modbus library.

The codec and the tables are `modbus_pdu` and `registers`; this file frames them in MBAP headers, and spoils
the answers when a fault asks for it. Several units can stand behind one port, as behind a gateway.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Final

from simulators.link import Gate, Link
from simulators.machine import Value
from simulators.maps import ModbusMap, Place, Trigger
from simulators.modbus_pdu import HOLDING, INPUT, NO_RESPONSE_FROM_TARGET, Unit, Write, answer, exception
from simulators.packml import COMMANDS
from simulators.registers import encode
from simulators.writes import ADDRESS_OF, EXECUTED, IGNORED, REFUSED, Fate, Trouble, WriteLedger

_HEADER: Final = struct.Struct(">HHHB")
_ADU_LENGTH_MAX: Final = 254

OnCommand = Callable[[str, str], None]
"""Told (equipment, command) when a client writes to a place that commands a machine."""
OnAdjust = Callable[[str, str, float], None]
"""Told (equipment, tag, value) when a client has given a machine a set point."""

WRONGS: Final = ("transaction", "unit", "function", "short", "truncated")
"""Ways in which answers can be wrong: see `_spoiled`."""


class ModbusServer:
    """One port with its units. Call `put` with tag values; clients read them."""

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        map_: ModbusMap,
        unit: int,
        on_command: OnCommand,
        on_adjust: OnAdjust | None = None,
        ledger: WriteLedger | None = None,
    ) -> None:
        self.name = name
        self.gate = Gate(host, port, self._serve)
        self.trouble = Trouble(name)
        self.ledger = ledger if ledger is not None else WriteLedger()
        """Of the writes that come in."""
        self.exception_code: int | None = None
        """While set, every request is answered with this exception."""
        self.wrong: str | None = None
        """While set, every answer is wrong in this way (one of `WRONGS`)."""
        self._map = map_
        self._on_command = on_command
        self._on_adjust = on_adjust
        self._places: dict[tuple[str, str], list[Place]] = {}
        for place in map_.places:
            self._places.setdefault((place.owner, place.tag), []).append(place)
        self._triggers = {(trigger.table, trigger.address): trigger for trigger in map_.triggers}
        self._unit = Unit(
            blocks=map_.blocks,
            writable=map_.writable,
            hands_on=frozenset(key for key, trigger in self._triggers.items() if trigger.words),
            limits=map_.limits,
        )
        self._units = {unit: self._unit}

    @property
    def endpoint(self) -> str:
        """Where clients connect."""
        return f"tcp://{self.gate.host}:{self.gate.port}"

    def put(self, values: Iterable[tuple[str, str, Value]]) -> None:
        """Take over (owner, tag, value), all at once. Values that are not in the map are ignored."""
        for owner, tag, value in values:
            for place in self._places.get((owner, tag), ()):
                self._store(place, value)

    def command_taken(self, equipment: str) -> None:
        """The machine has taken a command: the place that armed it goes back to zero."""
        if self.trouble.keeps_request:
            return
        for (table, address), trigger in self._triggers.items():
            if trigger.owner == equipment and trigger.argument is not None:
                self._unit.values[table, address] = 0

    def _store(self, place: Place, value: Value) -> None:
        values = self._unit.values
        if place.bit is not None:
            old = values.get((place.table, place.address), 0)
            mask = 1 << place.bit
            words = [old | mask if value else old & ~mask]
        elif place.kind == "bool":
            words = [int(bool(value))]
        else:
            words = encode(place.kind, value, order=place.order, scale=place.scale)
        for address, word in enumerate(words, place.address):
            values[place.table, address] = word
            if place.table == HOLDING and any(address in block for block in self._map.mirrored):
                values[INPUT, address] = word

    async def _serve(self, link: Link) -> None:
        while True:
            transaction, protocol, length, unit = _HEADER.unpack(await link.read_exactly(_HEADER.size))
            if protocol != 0 or not 2 <= length <= _ADU_LENGTH_MAX:
                return  # not Modbus, or out of step: there is no way back but a new connection
            request = await link.read_exactly(length - 1)
            reply = self._answer(unit, request)
            fate, delay_s = self.trouble.fate() if request[0] in ADDRESS_OF else (Fate.ANSWERED, 0.0)
            if fate is Fate.CUT:
                link.reset()
                return
            if fate is Fate.LOST:
                continue
            if self.wrong is None:
                await link.send(_HEADER.pack(transaction, 0, len(reply) + 1, unit) + reply, delay_s)
            else:
                await link.send(_spoiled(self.wrong, transaction, unit, reply), delay_s)

    def _answer(self, unit: int, request: bytes) -> bytes:
        writes = request[0] in ADDRESS_OF
        reply: bytes
        write: Write | None = None
        done = EXECUTED
        if self.exception_code is not None:
            reply = exception(request[0], self.exception_code)
        elif unit not in self._units:
            reply = exception(request[0], NO_RESPONSE_FROM_TARGET)
        elif writes and self.trouble.ignores():
            reply, done = _as_if_done(request), IGNORED
        else:
            reply, write = answer(self._units[unit], request)
        if writes:
            self._note(unit, request, reply, done)
        if write is not None:
            self._hand_on(write)
        return reply

    def _note(self, unit: int, request: bytes, reply: bytes, done: str) -> None:
        refused = bool(reply[0] & 0x80)
        address = int.from_bytes(request[1:3], "big")
        start = 6 if request[0] in (15, 16) else 3
        size = 1 if request[0] == 15 else 2
        data = request[start:]
        values = [int.from_bytes(data[at : at + size], "big") for at in range(0, len(data), size)]
        self.ledger.note(
            self.name if unit in self._units else f"{self.name}/{unit}",
            f"FC{request[0]}",
            f"{ADDRESS_OF[request[0]]}:{address}",
            values,
            REFUSED if refused else done,
            reply[1] if refused else 0,
        )

    def _hand_on(self, write: Write) -> None:
        for address, value, before in zip(
            range(write.address, write.address + len(write.values)), write.values, write.before, strict=True
        ):
            trigger = self._triggers.get((write.table, address))
            if trigger is not None and not self.trouble.deaf:
                word = self._word(trigger, value, before)
                if word is not None:
                    self._on_command(trigger.owner, word)
        for setpoint in self._map.setpoints:
            touched = range(write.address - 1, write.address + len(write.values))
            if self._on_adjust is not None and write.table == HOLDING and setpoint.address in touched:
                words = [self._unit.values.get((HOLDING, setpoint.address + place), 0) for place in (0, 1)]
                (value_f,) = struct.unpack(">f", struct.pack(">2H", *words))
                self._on_adjust(setpoint.owner, setpoint.tag, value_f)

    def _word(self, trigger: Trigger, value: int, before: int) -> str | None:
        if trigger.argument is None:
            return dict(trigger.words).get(value)
        if value == 0 or before != 0:
            return None  # only the rising edge hands a command over; the falling one arms anew
        code = self._unit.values.get((trigger.table, trigger.argument), 0)
        return COMMANDS.get(code, f"CntrlCmd {code}")


def _as_if_done(request: bytes) -> bytes:
    """The answer that says yes."""
    return request[:5] if request[0] in (15, 16) else request


def _spoiled(how: str, transaction: int, unit: int, reply: bytes) -> bytes:
    """An answer that a careful client must not believe.

    `transaction`: another request's id. `unit`: another unit's. `function`: the answer to another function.
    `short`: sound, but with the last register (or byte of bits) missing. `truncated`: the header promises
    more bytes than come.
    """
    if how == "transaction":
        transaction = (transaction + 1) & 0xFFFF
    elif how == "unit":
        unit = unit % 247 + 1
    elif how == "function":
        reply = bytes((reply[0] ^ 0x07,)) + reply[1:]
    elif how == "short" and len(reply) > 3 and reply[0] in (1, 2, 3, 4):
        cut = 1 if reply[0] in (1, 2) else 2
        reply = bytes((reply[0], reply[1] - cut)) + reply[2:-cut]
    frame = _HEADER.pack(transaction, 0, len(reply) + 1, unit) + reply
    return frame[: -max(1, len(reply) // 2)] if how == "truncated" else frame
