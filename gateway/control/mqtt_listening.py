"""Listens to one broker for commands, hands them to the desk, and answers: a connection of its own.

Of its own, so that nobody who floods the topic of commands is in the way of what the gateway tells, and so
that both can be given different rights at the broker. It subscribes to the topics of the rules alone, with a
clean session: what was sent while nobody listened is not wanted any more. Everything is bounded; what is too
much is refused and counted. What a message means is judged in `mqtt_orders`, what may be done by the desk.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime

import structlog

from api.access import Principal
from api.commanding import CommandRefused, Commands
from connectors.base import Clock
from gateway.control.mqtt_orders import KINDS, Asked, Orders, TurnedAway, refused, told, turned_away
from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt.link import Link, Message
from gateway.mqtt.options import LinkOptions
from gateway.mqtt.retry import Retry
from gateway.sparkplug.ration import Ration
from gateway.together import together

#: Most requests that wait, that are at the desk at once, and answers that wait for the broker.
WAITING_MAX, AT_DESK_MAX, ANSWERS_MAX = 100, 16, 1000
#: A complaint of one kind is logged once in this time.
COMPLAIN_EVERY_S = 60.0
#: Longest leave.
STOP_S = 2.0

#: What is counted of requests.
WHAT = ("taken", "done", "refused", "unanswered", *KINDS)

log = structlog.get_logger("andon.commands")


class MqttListening:
    """One broker that commands may come from. `run` for ever; `counts` says how it goes."""

    def __init__(
        self,
        options: LinkOptions,
        orders: Orders,
        caller: Principal,
        desk: Callable[[], Commands | None],
        clock: Clock,
        random01: Callable[[], float] = random.random,
    ) -> None:
        self._options, self._orders, self._caller = options, orders, caller
        self._desk, self._clock, self._random01 = desk, clock, random01
        self._retry = Retry()
        self._waiting: asyncio.Queue[Asked] = asyncio.Queue(WAITING_MAX)
        self._answers: OrderedDict[str, bytes] = OrderedDict()
        self._answered = asyncio.Event()
        self._rations: dict[str, Ration] = {}
        self.counts: Counter[str] = Counter(dict.fromkeys(WHAT, 0))
        self.last_error: str | None = None
        self.connected = asyncio.Event()
        """Set while the broker has agreed to all topics."""

    async def run(self) -> None:
        """Listen until cancelled. Nothing a broker does ends this."""
        if not self._orders.topics:
            return
        await together(self._stay_connected(), *(self._hand_in() for _ in range(AT_DESK_MAX)))

    def figures(self) -> Mapping[str, int]:
        """Requests by what became of them; the words are those of `WHAT`."""
        return dict(self.counts)

    # The connection.

    async def _stay_connected(self) -> None:
        while True:
            since_s, was_up = self._clock.monotonic(), False
            try:
                link = await Link.open(self._options, self._clock, will=None, on_message=self._take)
                was_up = True
                await self._session(link)
            except (SinkUnavailable, SinkRefused) as failure:
                up_for_s = max(self._clock.monotonic() - since_s, 1e-9) if was_up else 0.0
                pause_s = self._retry.failed(failure, up_for_s=up_for_s, random01=self._random01())
                if self.last_error != failure.reason:
                    log.warning(
                        "no commands over the broker", broker=self._options.address, reason=failure.reason
                    )
                self.last_error = failure.reason
                await self._clock.sleep(pause_s)

    async def _session(self, link: Link) -> None:
        try:
            await link.subscribe(dict.fromkeys(self._orders.topics, 1))
            self.last_error = None
            self.connected.set()
            log.info(
                "commands over the broker", broker=self._options.address, topics=len(self._orders.topics)
            )
            await together(link.ended(), self._answer(link))
        finally:
            self.connected.clear()
            await link.stop(STOP_S)

    async def _answer(self, link: Link) -> None:
        """Say what is to be answered, oldest first, for as long as the connection lasts."""
        while True:
            while not self._answers:
                self._answered.clear()
                await self._answered.wait()
            await link.room()
            topic, payload = next(iter(self._answers.items()))
            del self._answers[topic]
            link.publish(topic, payload, qos=1)

    # What comes in.

    def _take(self, message: Message) -> None:
        found = self._orders.read(message, self._clock.now())
        if isinstance(found, Asked):
            try:
                self._waiting.put_nowait(found)
                self.counts["taken"] += 1
                return
            except asyncio.QueueFull:
                reason = f"{WAITING_MAX} requests wait already"
                found = TurnedAway("overrun", reason, found.id, found.answer_to)
        self._complain(found.kind, found.reason)
        if found.answer_to:
            self._say(found.answer_to, turned_away(found, self._clock.now()))

    async def _hand_in(self) -> None:
        """Bring requests to the desk, one after the other, for ever. The desk knows which come twice."""
        while True:
            asked = await self._waiting.get()
            answer = await self._decided(asked)
            if answer is not None:
                self._say(asked.answer_to, answer)

    async def _decided(self, asked: Asked) -> bytes | None:
        desk, now = self._desk(), self._clock.now
        if desk is None:
            off = CommandRefused("writes_off", "commands are off", "[commands] says what may be commanded")
            return self._refused(asked, off, now())
        try:
            view = await desk.submit(asked.request, self._caller, "mqtt")
        except CommandRefused as error:
            if error.code == "key_running":
                return None  # the same came twice; the answer is on its way
            return self._refused(asked, error, now())
        self.counts["done"] += 1
        return told(asked.id, view, now())

    def _refused(self, asked: Asked, error: CommandRefused, at: datetime) -> bytes:
        self.counts["refused"] += 1
        return refused(asked.id, error, at)

    def _say(self, topic: str, payload: bytes) -> None:
        """Answer when there is a connection; the oldest answer makes way when there are too many."""
        self._answers[topic] = payload
        while len(self._answers) > ANSWERS_MAX:
            self._answers.popitem(last=False)
            self.counts["unanswered"] += 1
        self._answered.set()

    def _complain(self, kind: str, reason: str) -> None:
        self.counts[kind] += 1
        ration = self._rations.setdefault(kind, Ration(COMPLAIN_EVERY_S))
        if ration.ask(self._clock.monotonic()):
            log.warning("a request is not looked at", broker=self._options.address, kind=kind, reason=reason)


class Ear:
    """Listens with whatever it was given last; what was before is ended first."""

    def __init__(self) -> None:
        self._told: object = None
        self._changed = asyncio.Event()
        self.listening: MqttListening | None = None

    def use(self, told: object, build: Callable[[], MqttListening | None]) -> None:
        """Listen with another from now on, unless `told`, all that it depends on, is as before."""
        if told != self._told:
            self._told, self.listening = told, build()
            self._changed.set()

    def figures(self) -> Mapping[str, int]:
        """As `MqttListening.figures`; nothing while nobody listens."""
        return {} if self.listening is None else self.listening.figures()

    def warnings(self) -> tuple[str, ...]:
        """Why no commands can come, if they should."""
        one = self.listening
        if one is None or one.connected.is_set() or one.last_error is None:
            return ()
        return (f"no commands come over this broker: {one.last_error}",)

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            self._changed.clear()
            if self.listening is None:
                await self._changed.wait()
                continue
            with contextlib.suppress(_Changed):
                await together(self.listening.run(), self._until_changed())

    async def _until_changed(self) -> None:
        await self._changed.wait()
        raise _Changed


class _Changed(Exception):
    """Another is to listen."""
