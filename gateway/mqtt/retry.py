"""When to connect again, and what to tell people meanwhile. Pure: failures and random numbers are handed in.

A broker is near and a try is cheap, so the pauses stay short (retained truth must be back within seconds of
a repair), except where trying does harm: a refusal that a person has to mend, and a fight over a client id.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from connectors.backoff import Backoff
from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt.reasons import ClosedByBroker, Overloaded, Renewed, TakenOver

#: Pause after a refusal: a password mended in the broker is noticed within this.
REFUSED_PAUSE_S = 60.0

#: Longest pause while a broker has too much to do, or finds that we ask too much of it.
OVERLOADED_PAUSE_S = 60.0

#: Pause after somebody took our client id. Two gateways that both wait so long change places at most once in
#: 90 s, jitter included.
TAKEN_OVER_PAUSE_S = 120.0

#: So many connections in a row, each accepted and soon closed without a word by a broker that goes on
#: listening, look like a client id in use twice: MQTT 3.1.1 has no other way to say it, and Mosquitto 2.0
#: does not say it in MQTT 5 either. A guess: so the pauses grow step by step before they are long.
KICKS_MAX = 5
#: Pause then: two that fight change places less than once a minute.
SUSPECTED_PAUSE_S = 80.0
#: A connection that lasted so long ends the suspicion. Until then one more such end confirms it, however long
#: the connection stood: the other side pauses too.
FORGIVEN_S = 600.0

Failure = SinkUnavailable | SinkRefused


@dataclass
class Retry:
    """Pauses between attempts, and the word of alarm."""

    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=0.5, max_s=4.0, settled_s=10.0))
    overloads: Backoff = field(
        default_factory=lambda: Backoff(first_s=2.0, max_s=OVERLOADED_PAUSE_S, settled_s=60.0)
    )
    kicks: Backoff = field(
        default_factory=lambda: Backoff(first_s=0.5, max_s=TAKEN_OVER_PAUSE_S, settled_s=10.0)
    )
    alarm: str = ""

    def failed(self, failure: Failure, *, up_for_s: float, random01: float, listens: bool = False) -> float:
        """Seconds to wait before the next attempt.

        `up_for_s` is 0 when the broker never accepted us; `listens` tells whether it still accepts others.
        """
        if isinstance(failure, Renewed):
            return 0.0
        spread = 0.75 + random01 / 2
        if up_for_s >= FORGIVEN_S:
            self.kicks.failures = 0
        soon = up_for_s < self.kicks.settled_s or self._suspects
        if listens and isinstance(failure, ClosedByBroker) and up_for_s > 0 and soon:
            pause = self.kicks.failed(0.0, random01)
            if self.kicks.failures < KICKS_MAX:
                self.alarm = ""
                return pause
            self.alarm = "client_id_taken"
            return max(pause, SUSPECTED_PAUSE_S * spread)
        self.kicks.failures = 0
        pause = self.backoff.failed(up_for_s, random01)
        if isinstance(failure, TakenOver):
            self.alarm = "client_id_taken"
            return TAKEN_OVER_PAUSE_S * spread
        if isinstance(failure, SinkRefused):
            self.alarm = "refused"
            return REFUSED_PAUSE_S * spread
        self.alarm = ""
        if isinstance(failure, Overloaded):
            return self.overloads.failed(up_for_s, random01)
        self.overloads.failures = 0
        return pause

    def settled(self) -> None:
        """The connection has lasted: no alarm any longer. A suspicion stays for a while."""
        if not self._suspects:
            self.kicks.failures = 0
        self.alarm = ""

    @property
    def _suspects(self) -> bool:
        return self.kicks.failures >= KICKS_MAX - 1
