"""Topic aliases of MQTT 5: a topic that is said again costs three bytes instead of its length. Pure.

A broker says how many it takes (Topic Alias Maximum); they last as long as the connection. The first topics
that are said a second time get one: what is said once only would waste it. After MQTT 5.0 section 3.3.2.3.4.
"""

from __future__ import annotations

from gateway.mqtt.properties import Id

#: Most aliases used, however many a broker takes: a bound on memory, here and there.
ALIASES_MAX = 4096
#: Topics said once that are remembered for each alias that is left. More are forgotten and begin anew.
_ONCE_MAX = 16


class Aliases:
    """Those of one connection. `known` gives the packed alias of a topic the broker knows it for."""

    def __init__(self, allowed: int) -> None:
        self.known: dict[str, bytes] = {}
        self.left = min(allowed, ALIASES_MAX)
        self._next = 1
        self._once: set[str] = set()

    def offer(self, topic: str) -> bytes | None:
        """The packed alias to say together with a topic that is not `known`, or None.

        It counts only once `given` says that it went out: a message can be too large to go.
        """
        if not self.left:
            return None
        if topic in self._once:
            return bytes((Id.TOPIC_ALIAS,)) + self._next.to_bytes(2, "big")
        if len(self._once) >= _ONCE_MAX * self.left:
            self._once.clear()
        self._once.add(topic)
        return None

    def given(self, topic: str, alias: bytes) -> None:
        """A message with both is on its way: from now on the alias alone is enough."""
        self.known[topic] = alias
        self._next += 1
        self.left -= 1
        self._once.discard(topic)
        if not self.left:
            self._once = set()
