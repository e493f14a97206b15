"""Whether hosts can hear this edge node at all, and whether somebody else speaks under its name.

Sparkplug is QoS 0: a broker drops without a word what its rules do not let us publish, and nothing in the
standard tells an edge node of a second one with its name. So each connection also asks for the topics of our
own NBIRTH and NDEATH. The birth has to come back; one that we never sent, or the death of a session that
cannot be ours, is somebody else's. A broker that does not let us ask is no fault: then it is not known.

Time is counted in looks, of which a process that was stopped has none, and nothing is decided before the
broker has answered once more: neither a slow machine nor a slow link makes an alarm. Nobody is fought with:
what is heard of another is told to people, and never answered. Knows no session, journal or equipment.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import NamedTuple

import structlog

from connectors.base import Clock
from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt.link import Link
from gateway.mqtt.terms import Message
from gateway.sparkplug.births import BDSEQ
from gateway.sparkplug.messages import NUMBERS, Now
from gateway.sparkplug.names import Names, Verb
from gateway.sparkplug.payload import NotSparkplug, Payload, decode

#: How often it is looked, in seconds, and after how many looks a birth should have come back.
LOOK_EVERY_S, LOOKS = 1.0, 10
#: While nothing comes back the node is born again after so many looks, then twice as many, up to the last.
AGAIN_FIRST, AGAIN_MAX = 20, 2560
#: After so long without a word of the other one the name counts as ours alone, in seconds; and after so long
#: where it was born and has not died. Born once, it may tell values for months and have no word for us.
FORGET_S, STANDS_S = 600.0, 86_400.0
#: So long after a CONNECT something of our own earlier process may still be on its way, in seconds.
SETTLE_S = 10.0
#: Births of ours that are remembered.
OURS_MAX = 64
#: Longest birth that can come back: a `Link` reads no packets over 1 MiB.
ECHO_BYTES_MAX = 1024 * 1024 - 8192
#: A node with more tags is not asked for before it is known how long its birth is.
TAGS_MAX = 4000
#: Longest birth of another, and longest death, that is looked into.
OTHER_BIRTH_BYTES_MAX, DEATH_BYTES_MAX = 64 * 1024, 1024
#: Births of another are looked into once in so many seconds, and so often just after a CONNECT.
OTHER_EVERY_S, SETTLING_EVERY_S = 10.0, 0.2
#: A broker that ended so many connections in a row when it was asked is not asked for so many seconds.
SHOWN_OUT_MAX, LEFT_ALONE_S = 2, 3600.0

#: Words of alarm.
UNHEARD, NAME_TAKEN = "unheard", "name_taken"

log = structlog.get_logger(__name__)


class Trouble(NamedTuple):
    """What a person has to deal with."""

    alarm: str
    reason: str
    hint: str

    def __str__(self) -> str:
        return f"{self.reason}; {self.hint}"


class Hearing:
    """What one edge node hears of itself, over all its connections.

    `sink` names it in the log, `section` in hints. With `wanted` false nothing is asked for. `tags` is how
    many its birth shows.
    """

    def __init__(self, names: Names, *, sink: str, section: str, wanted: bool = True, tags: int = 0) -> None:
        self._birth, self._death = names.topic(Verb.NBIRTH), names.topic(Verb.NDEATH)
        self._name, self._sink, self._section = f"{names.group}/{names.edge_node}", sink, section
        self._wanted, self._too_long = wanted, tags > TAGS_MAX
        #: Births of ours by what they are, with their numbers, and the first of this connection.
        self._ours: OrderedDict[bytes, int] = OrderedDict()
        self._said = self._first = 0
        #: The oldest birth of this connection that has not come back, and how often that was seen.
        self._missing: int | None = None
        self._looks = 0
        #: Looks until the node is born again, and how many there will be the next time.
        self._again, self._pause = 0, AGAIN_FIRST
        self._granted = False
        self._bd_seq, self._since = 0, Now(datetime.min.replace(tzinfo=UTC), 0.0)
        self._ever = False
        #: A death with the number of the session that stands, which the broker may still prove to be ours.
        self._doubtful_death = False
        self._other: Trouble | None = None
        self._unheard: Trouble | None = None
        self._other_s: float | None = None
        #: The number of the other's session, while its death has neither been heard nor may have been missed.
        self._other_bd_seq: int | None = None
        self._looked_into_s: float | None = None
        self._shown_out, self._shown_out_s = 0, 0.0
        self._told = ""
        self.foreign = 0
        """Births and deaths under our name that are not ours."""
        self.heard = ""
        """Whether our births come back: `yes`, `no` or `unknown`; empty while that is to be seen."""

    # --- one connection

    @property
    def topics(self) -> Mapping[str, int]:
        """What to ask for, with the QoS."""
        return {self._birth: 0, self._death: 0}

    def connected(self, bd_seq: int, now: Now) -> bool:
        """A broker has taken our CONNECT, whose will has this number. Whether to ask it for our topics."""
        self._bd_seq, self._since = bd_seq, now
        self._first = self._said + 1
        self._missing, self._looks, self._doubtful_death, self._granted = None, 0, False, False
        self._again, self._pause = 0, AGAIN_FIRST
        self._other_bd_seq = None
        self.heard = ""
        if not self._wanted:
            self.heard = "unknown"
        elif self._too_long:
            self._unknown("the birth of this edge node is too long to be read by itself")
        elif self._shown_out >= SHOWN_OUT_MAX and now.monotonic_s < self._shown_out_s + LEFT_ALONE_S:
            self._unknown("the broker ends the connection when it is asked for our own births")
        return self.heard == ""

    async def ask(self, link: Link, bd_seq: int, clock: Clock) -> None:
        """Ask the broker of a new connection for our topics, before the births.

        Raises:
            SinkUnavailable, SinkRefused: the connection is over. A refusal is none of them.
        """
        if not self.connected(bd_seq, Now(clock.now(), clock.monotonic())):
            return
        try:
            await link.subscribe(self.topics)
        except (SinkUnavailable, SinkRefused) as why:
            try:
                await link.taken()
            except (SinkUnavailable, SinkRefused):
                self._shown_out, self._shown_out_s = self._shown_out + 1, clock.monotonic()
                raise
            self._unknown(why.reason)
        else:
            self._granted = True
        self._shown_out = 0

    def said(self, body: bytes) -> None:
        """A birth of ours is on its way."""
        self._said += 1
        self._ours[_mark(body)] = self._said
        if len(self._ours) > OURS_MAX:
            self._ours.popitem(last=False)
        self._too_long = len(body) > ECHO_BYTES_MAX
        if self._too_long and self._granted:
            self._granted = False
            self._unknown("the birth of this edge node is too long to be read by itself")
        elif self._granted and self._missing is None:
            self._missing, self._looks = self._said, 0

    def hear(self, message: Message, now: Now) -> bool:
        """A message has come in. Whether it was for this, and nothing else has to look at it."""
        if message.topic == self._birth:
            if message.payload and not message.retained:  # kept by somebody, or cleared: no news of anybody
                self._hear_birth(message.payload, now)
        elif message.topic == self._death:
            if message.payload and not message.retained:
                self._hear_death(message.payload, now)
        else:
            return False
        return True

    # --- now and then

    def look(self, now_s: float) -> bool:
        """Some time has passed. Whether there is something to `decide`, once the broker has answered."""
        after_s = FORGET_S if self._other_bd_seq is None else STANDS_S
        if self._other_s is not None and now_s - self._other_s >= after_s:
            self._other = self._other_s = self._other_bd_seq = None
            log.info("nobody else is heard under the name of this edge node any more", sink=self._sink)
        if self._again:
            self._again -= 1
        if self._missing is not None:
            self._looks += 1
        return self._doubtful_death or (self._missing is not None and self._looks >= LOOKS)

    def decide(self, now_s: float) -> None:
        """The broker has answered after the last look, so what it had to say before has been heard."""
        if self._doubtful_death:  # and our connection stands
            self._doubtful_death = False
            self._another(now_s, f"with bdSeq {self._bd_seq}")
        if self._missing is None or self._looks < LOOKS:
            return
        self._missing, self._looks, self.heard = None, 0, "no"
        self._again, self._pause = self._pause, min(self._pause * 2, AGAIN_MAX)
        if self._unheard is None:
            self._unheard = self._silence()
            self._log(self._unheard)

    @property
    def wants_birth(self) -> bool:
        """Whether a further birth should show if the broker passes it on by now; asked once each time."""
        if self.heard != "no" or self._again or self._missing is not None:
            return False
        self._again = self._pause
        return True

    @property
    def trouble(self) -> Trouble | None:
        """What a person has to deal with; that nobody hears us goes before that somebody else is heard."""
        return self._unheard or self._other

    # --- inside

    def _hear_birth(self, body: bytes, now: Now) -> None:
        number = self._ours.get(_mark(body))
        if number is None:
            self._hear_another(body, now)
        elif number >= self._first:  # else it shows how it was on a connection that is over
            self._missing = None if number >= self._said else number + 1
            self._looks = self._again = 0
            self._pause = AGAIN_FIRST
            self._ever, self.heard = True, "yes"
            if self._unheard is not None:
                self._unheard = None
                log.info("the broker passes on what this edge node publishes", sink=self._sink)

    def _hear_another(self, body: bytes, now: Now) -> None:
        every_s = SETTLING_EVERY_S if self._settling(now) else OTHER_EVERY_S
        curious = self._looked_into_s is None or now.monotonic_s - self._looked_into_s >= every_s
        said = None
        if curious:
            self._looked_into_s = now.monotonic_s
            said = _read(body, OTHER_BIRTH_BYTES_MAX)
        if not self._perhaps_earlier(said, now):
            if said is not None:
                self._other_bd_seq = _bd_seq_of(said)
            self._another(now.monotonic_s, _who(said))

    def _settling(self, now: Now) -> bool:
        return now.monotonic_s - self._since.monotonic_s < SETTLE_S

    def _perhaps_earlier(self, said: Payload | None, now: Now) -> bool:
        """Whether it may be from the process that had this name, and this machine, before us."""
        return self._settling(now) and (said is None or said.at is None or said.at < self._since.at)

    def _hear_death(self, body: bytes, now: Now) -> None:
        """Numbers before ours are our own: wills of earlier connections come late. Those after it are not."""
        said = _read(body, DEATH_BYTES_MAX)
        number = None if said is None else _bd_seq_of(said)
        if number is None:
            return
        if self._other_bd_seq == number:  # perhaps ours, and then the other one is only forgotten sooner
            self._other_bd_seq, self._other_s = None, now.monotonic_s
        ahead = (number - self._bd_seq) % NUMBERS
        if ahead == 0:
            self._doubtful_death = True
        elif ahead < NUMBERS // 2 and not self._perhaps_earlier(said, now):
            self._another(now.monotonic_s, f"with bdSeq {number}")

    def _another(self, now_s: float, who: str | None) -> None:
        """Somebody else has our name. `who` says more of it; None: as much as was known before."""
        self.foreign += 1
        known, self._other_s = self._other, now_s
        if known is not None and who is None:
            return
        self._other = Trouble(
            NAME_TAKEN,
            f'another client uses the name of this edge node, "{self._name}"'
            + (f" ({who})" if who else "")
            + ": hosts take the two for one, miss numbers, and ask for births again and again",
            f"give each gateway its own edge_node, or another group, in {self._section}; the broker's log "
            f"says which clients publish to {self._birth}",
        )
        if known is None:
            self._log(self._other)

    def _silence(self) -> Trouble:
        no_more = "does not pass on any more" if self._ever else "does not pass on"
        return Trouble(
            UNHEARD,
            f"the broker {no_more} what this edge node publishes on {self._birth}, at least not to itself: "
            "hosts probably hear nothing of it",
            "let its user publish, and read, its own NBIRTH and NDEATH in the broker's access rules, or set "
            f"echo = false in {self._section} where it must not read them",
        )

    def _unknown(self, why: str) -> None:
        """It cannot be known on this connection, and nobody is to blame."""
        self.heard, self._unheard, self._missing = "unknown", None, None
        if why != self._told:
            self._told = why
            log.info("not known whether hosts hear this edge node", sink=self._sink, reason=why)

    def _log(self, trouble: Trouble) -> None:
        log.warning(
            "edge node in trouble",
            sink=self._sink,
            alarm=trouble.alarm,
            reason=trouble.reason,
            hint=trouble.hint,
        )


async def listen(
    hearing: Hearing, link: Link, clock: Clock, born_again: Callable[[], Awaitable[None]]
) -> None:
    """Look, and decide, and be born again where that may help, for as long as the connection stands.

    Raises:
        SinkUnavailable, SinkRefused: the connection is over.
    """
    while True:
        await clock.sleep(LOOK_EVERY_S)
        if hearing.look(clock.monotonic()):
            await link.taken()
            await clock.sleep(LOOK_EVERY_S)  # not every broker answers in order what it passes on
            await link.taken()
            hearing.decide(clock.monotonic())
        if hearing.wants_birth:
            await born_again()


def _mark(body: bytes) -> bytes:
    return blake2b(body, digest_size=16).digest()


def _read(body: bytes, bytes_max: int) -> Payload | None:
    """What a message says, if it is short and Sparkplug."""
    if len(body) > bytes_max:
        return None
    try:
        return decode(body)
    except NotSparkplug:
        return None


def _bd_seq_of(said: Payload) -> int | None:
    found = _value(said, BDSEQ)
    return found if isinstance(found, int) and 0 <= found < NUMBERS else None


def _value(said: Payload, name: str) -> object:
    return next((metric.value for metric in said.metrics if metric.name == name), None)


def _who(said: Payload | None) -> str | None:
    """What a birth tells of who was born. Written by others: short, and nothing that cannot be printed."""
    if said is None:
        return None
    told = [
        f"{label} {''.join(filter(str.isprintable, str(found)))[:60]}"
        for label, name in (
            ("software", "Properties/Software"),
            ("version", "Properties/Version"),
            ("journal", "Properties/Stream"),
            ("bdSeq", BDSEQ),
        )
        if isinstance(found := _value(said, name), str | int)
    ]
    return ", ".join(told) or None
