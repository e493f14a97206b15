"""Whether we are there, and whether what the broker shows of that is still true.

The broker says `offline` for us by the will of a connection that died, and may do so late: when the next one
stands already, because it believed in the old one for longer. So we listen to our own status topic, and say
`online` again when anything else is said there. The same topic tells of a broker that lost its store without
closing the connection: asked again, it no longer gives what it had retained, and then everything is said
again.

A broker of MQTT 3.1.1 cannot refuse a message: it acknowledges what it throws away. Where it goes on giving
another status than the one it acknowledged, it keeps nothing of what we publish, and people are told.

A broker need not let us listen. Whether it does shows in what comes, since some refuse without saying so;
where it does not, `online` is said again now and then, more often at first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from connectors.base import Clock
from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt.link import Link, Message, MessageRefused
from gateway.mqtt.reasons import RIGHTS
from gateway.publish import payloads
from gateway.publish.voice import Voice
from gateway.together import together

#: Time between two looks at our own status, and how long it may take to come; twice it may fail to.
LOOK_EVERY_S, ECHO_S = 4.0, 2.0
#: Least time between two words because of what others say on our topic.
AGAIN_S = 0.25
#: Who may not listen says it again so long after the connect, then every so often: a late will comes after
#: one and a half keep-alives at the latest.
UNHEARD_AFTER_S = (1.0, 2.0, 4.0, 8.0, 15.0, 25.0, 40.0)
UNHEARD_EVERY_S = 60.0

#: So many looks in a row that find another status than an acknowledged `online` mean that nothing is kept.
UNKEPT_LOOKS = 2
_NOT_AUTHORISED = 0x87
UNKEPT = "the broker acknowledges and does not keep what we publish: rights"

log = structlog.get_logger(__name__)


class Presence:
    """Keeps the status of one connection after another true. `lost` is called when the broker's store is.

    `refused` is called as if the broker had said that it will not have our status, when it does not keep it.
    """

    def __init__(
        self,
        voice: Voice,
        clock: Clock,
        lost: Callable[[], None],
        refused: Callable[[MessageRefused], None],
        *,
        looks: bool = True,
    ) -> None:
        """`looks`: ask for the status now and then; needless with a broker inside this process."""
        self._voice, self._clock, self._lost, self._looks = voice, clock, lost, looks
        self._refused = refused
        self._acknowledged = self._otherwise = False
        self._unkept = 0
        self._echo, self._wrong = asyncio.Event(), asyncio.Event()
        self._told = False
        self.heard = False
        """Whether this broker lets us listen to our own status."""
        #: Whether it let the one before us on this connection: then it has our status, or lost its store.
        self._heard_before = False

    def follow(self, before: Presence) -> None:
        """The next connection is that of another one."""
        self._heard_before = before.heard or before._heard_before

    def take(self, message: Message) -> None:
        """Somebody, perhaps ourselves, said something."""
        if message.topic == self._voice.topics.status:
            # What it has kept, not what somebody says just now, such as the will of an older connection.
            self._otherwise |= message.retained and message.payload != payloads.ONLINE
            (self._echo if message.payload == payloads.ONLINE else self._wrong).set()

    async def keep(self, link: Link, *, goes_on: bool = False) -> None:
        """Say `online`, and keep it said until the connection is over.

        `goes_on`: it was said on this connection before; what the broker retains shows whether it stands.
        """
        self.heard, self._told = False, False
        self._acknowledged, self._unkept = False, 0
        self._echo.clear()
        self._wrong.clear()
        if goes_on and self._voice.kinds.status.retain:
            self._acknowledged = True
        else:
            await self._say(link)
        listening = (self._mend(link), self._look(link)) if await self._ask(link) else ()
        await together(self._repeat(link), *listening)

    async def _say(self, link: Link) -> None:
        if link.full:
            await link.room()
        self._voice.status(link, self._has_it)

    def _has_it(self) -> None:
        self._acknowledged = True

    async def _ask(self, link: Link) -> bool:
        """Ask to hear our own status. Whether the broker agrees: where it does not, we stay all the same."""
        try:
            await link.subscribe({self._voice.topics.status: 1})
        except (SinkRefused, SinkUnavailable) as refused:
            await link.room()  # raises when it is the connection that is over
            if not self._told:
                log.info("this broker lets us not listen to our own status", reason=refused.reason)
            self._told = True
            return False
        return True

    async def _mend(self, link: Link) -> None:
        while True:
            await self._wrong.wait()
            self._wrong.clear()
            await self._say(link)
            await self._clock.sleep(AGAIN_S)

    async def _look(self, link: Link) -> None:
        self.heard = await self._echoes()
        heard_before, self._heard_before = self._heard_before, False
        if heard_before and not self.heard and self._looks:  # it was said before we came, so look once more
            self.heard = await self._ask(link) and await self._echoes()
            if not self.heard:
                log.warning("the broker lost what it had retained; everything is said again")
                self._lost()
        while self._looks:
            await self._clock.sleep(LOOK_EVERY_S)
            for _ in range(2):
                self._echo.clear()
                acknowledged, self._otherwise = self._acknowledged, False
                agreed = await self._ask(link)
                came = agreed and await self._echoes()
                self._judge(came, acknowledged=acknowledged)
                if came or not agreed:
                    break
            if agreed and not came and self.heard:
                log.warning("the broker lost what it had retained; everything is said again")
                self._lost()
            self.heard = came

    def _judge(self, came: bool, *, acknowledged: bool) -> None:
        """After one look: whether what was acknowledged before it is there."""
        if came:
            self._unkept = 0
        elif acknowledged and self._otherwise:
            self._unkept += 1
            if self._unkept % UNKEPT_LOOKS == 0:
                self._refused(MessageRefused(self._voice.topics.status, _NOT_AUTHORISED, UNKEPT, RIGHTS))

    async def _echoes(self) -> bool:
        try:
            async with asyncio.timeout(ECHO_S):
                await self._echo.wait()
        except TimeoutError:
            return False
        return True

    async def _repeat(self, link: Link) -> None:
        passed_s = 0.0
        for at_s in UNHEARD_AFTER_S:
            await self._clock.sleep(at_s - passed_s)
            passed_s = at_s
            if not self.heard:
                await self._say(link)
        while True:
            await self._clock.sleep(UNHEARD_EVERY_S)
            if not self.heard:
                await self._say(link)
