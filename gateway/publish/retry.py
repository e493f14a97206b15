"""When to connect again, and what to tell people meanwhile. Pure: failures and random numbers are handed in.

A broker is near and a try is cheap, so the pauses stay short (retained truth must be back within seconds of
a repair), except where trying does harm: a refusal that a person has to mend, and a fight over a client id.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from connectors.backoff import Backoff
from gateway.errors import SinkRefused, SinkUnavailable
from gateway.publish.reasons import ClosedByBroker, TakenOver

#: Pause after a refusal: a password mended in the broker is noticed within this.
REFUSED_PAUSE_S = 60.0

#: Pause after somebody took our client id. Two gateways that both wait so long change places at most once in
#: 90 s, jitter included.
TAKEN_OVER_PAUSE_S = 120.0

#: So many connections in a row, each accepted and then closed without a word, look like a client id in use
#: twice: MQTT 3.1.1 has no other way to say it.
KICKS_MAX = 3

Failure = SinkUnavailable | SinkRefused


@dataclass
class Retry:
    """Pauses between attempts, and the word of alarm."""

    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=0.5, max_s=4.0, settled_s=10.0))
    kicks: int = 0
    alarm: str = ""

    def failed(self, failure: Failure, *, up_for_s: float, random01: float) -> float:
        """Seconds to wait before the next attempt. `up_for_s` is 0 when the broker never accepted us."""
        kicked = isinstance(failure, ClosedByBroker) and 0 < up_for_s < self.backoff.settled_s
        self.kicks = self.kicks + 1 if kicked else 0
        pause = self.backoff.failed(up_for_s, random01)
        if isinstance(failure, TakenOver) or self.kicks >= KICKS_MAX:
            self.alarm = "client_id_taken"
            return TAKEN_OVER_PAUSE_S * (0.75 + random01 / 2)
        if isinstance(failure, SinkRefused):
            self.alarm = "refused"
            return REFUSED_PAUSE_S * (0.75 + random01 / 2)
        if not kicked:
            self.alarm = ""
        return pause

    def settled(self) -> None:
        """The connection has lasted: no alarm any longer."""
        self.kicks = 0
        self.alarm = ""
