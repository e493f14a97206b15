"""A few questions to a device, one after the other, outside any polling: what looking around in it needs."""

from __future__ import annotations

import asyncio
from datetime import datetime

from connectors.base import Clock
from connectors.errors import ConnectionLost
from connectors.modbus.client import Client, Exchange, NoAnswer, no_answer
from connectors.modbus.config import ModbusSettings
from connectors.modbus.debts import Debts
from connectors.modbus.exceptions import Reaction, meaning_of
from connectors.modbus.frame import BadReply, Question, question
from connectors.modbus.framing import Ascii, Rtu
from connectors.modbus.opening import open_link
from connectors.modbus.plan import ReadRequest
from connectors.modbus.serial_client import Pace, SerialClient
from connectors.modbus.tcp_client import TcpClient

#: Pause before a device that said it is busy is asked again.
_BUSY_PAUSE_S = 0.25


class _Asking(Exchange):
    """A question somebody awaits the answer of."""

    __slots__ = ("answer",)

    def __init__(self, asked: Question, timeout_s: float) -> None:
        self.question = asked
        self.timeout_s = timeout_s
        self.deadline = self.asked_at = 0.0
        self.sent = False
        self.answer: asyncio.Future[bytes | int] = asyncio.get_running_loop().create_future()

    def answered(self, answer: bytes | int, at: datetime) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)

    def failed(self, why: NoAnswer | BadReply | ConnectionLost) -> None:
        if not self.answer.done():
            self.answer.set_exception(why)

    def came_late(self) -> None:
        pass  # thrown away, and the question is asked anew

    def saw_garbage(self, count: int) -> None:
        pass  # the answer stands apart from it


class Silent(ConnectionLost):
    """The link stands, and the unit does not answer this. Some say so of addresses they do not have."""


class Probe:
    """A link of its own to one unit. Use as an async context manager.

    Entering raises `ConnectionLost` or `DeviceRefused` as `open_link` does.
    """

    def __init__(self, settings: ModbusSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._place = settings.place()
        self._client: Client | None = None

    async def __aenter__(self) -> Probe:
        self._client = await open_link(
            self._place, self._settings.connect_timeout.total_seconds(), self._make
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.close()

    async def read(self, request: ReadRequest) -> bytes | None:
        """What the device has there, as its bytes; None where it refuses to say.

        Raises:
            Silent: it does not answer.
            ConnectionLost: the link is gone, or something answered what was not asked.
        """
        asked, busy, silent = question(request, self._settings.unit), 0, 0
        while True:
            await self._clock.sleep(self._settings.limits.pause.total_seconds())
            try:
                answer = await self._ask(asked)
            except NoAnswer as error:
                silent += 1
                if silent >= self._settings.timeouts_max:
                    raise self._silence() from error
                continue
            if isinstance(answer, bytes):
                return answer
            meaning = meaning_of(answer)
            if not meaning.from_device:
                raise ConnectionLost(
                    f"unit {self._settings.unit} is not reached: {meaning.name} (exception {answer})",
                    hint="is the unit id right, and the device behind the gateway on?",
                )
            busy += 1
            if meaning.reaction is not Reaction.REST or busy >= self._settings.busy_max:
                return None
            await self._clock.sleep(_BUSY_PAUSE_S)

    async def _ask(self, asked: Question) -> bytes | int:
        assert self._client is not None, "a probe is entered first"
        if self._client.loss is not None:
            raise self._client.loss
        asking = _Asking(asked, self._settings.timeout.total_seconds())
        self._client.ask(asking)
        try:
            return await asking.answer
        except BadReply as error:
            raise no_answer(error) from error

    def _silence(self) -> Silent:
        timeout_s = self._settings.timeout.total_seconds()
        return Silent(
            f"unit {self._settings.unit} did not answer {self._settings.timeouts_max} requests in a row "
            f"within {timeout_s:g} s each",
            hint="is the unit id right, and the device on? another one is tried with --set unit=3",
        )

    def _make(self) -> Client:
        if self._place.framing == "tcp":
            return TcpClient(self, self._clock.now)
        framing = Rtu() if self._place.framing == "rtu" else Ascii()
        serial = self._place.serial
        pace = Pace.of(serial.baud) if serial is not None else Pace()
        return SerialClient(self, self._clock.now, framing, Debts(), pace)

    # What the link tells its owner; whoever asks hears of it by the answer that fails.

    def lost(self, error: Exception) -> None:
        """The link is gone."""

    def unasked(self, unit: int | None, error: BadReply) -> None:
        """Somebody answered what was not asked."""
