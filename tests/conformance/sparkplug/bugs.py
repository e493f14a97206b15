"""Protocol bugs put into the running gateway: each makes one thing of the edge node wrong in a scenario.

Where `seeds` change what was written down, these change what is sent, and so try the way from the code over
the broker to the checks. They reach into the edge node's parts by name; one that is gone fails loudly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, NamedTuple
from unittest.mock import patch

import msgspec

from gateway.mqtt.link import Link
from gateway.mqtt.terms import Will
from gateway.sparkplug import births, edge_node
from gateway.sparkplug.host import PrimaryHost
from gateway.sparkplug.inbox import Inbox, Writes
from gateway.sparkplug.messages import Member, Messages, Publication
from gateway.sparkplug.session import Session

START = "start data and clean stop"
REBIRTHS = "links are lost and restored"
BREAKS = "connections break"
HOST = "a host is waited for"
QUALITY = "tags are bad and good again"


class Bug(NamedTuple):
    """What to put in, the scenario that shows it, and ids it has to be caught by."""

    name: str
    put_in: Callable[[], Any]
    scenario: str
    ids: frozenset[str]


BUGS: dict[str, Bug] = {}


def bug(scenario: str, *ids: str) -> Callable[[Callable[[], Iterator[None]]], Callable[[], Any]]:
    """Enters a bug."""

    def enter(put_in: Callable[[], Iterator[None]]) -> Callable[[], Any]:
        made = contextmanager(put_in)
        name = put_in.__name__
        BUGS[name] = Bug(name, made, scenario, frozenset(ids))
        return made

    return enter


def _around(owner: Any, name: str, change: Callable[..., Any]) -> Any:
    """Replaces a method by `change(original, self, ...)`."""
    original = getattr(owner, name)

    def changed(self: Any, *arguments: Any, **named: Any) -> Any:
        return change(original, self, *arguments, **named)

    return patch.object(owner, name, changed)


def _payload(publication: Publication, **more: Any) -> Publication:
    return publication._replace(payload=_but(publication.payload, **more))


def _but(value: Any, **more: Any) -> Any:
    """The same value with other fields, whichever kind of value it is."""
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.replace(value, **more)
    return value._replace(**more)


def _metrics(publication: Publication, change: Callable[[Any], Any]) -> Publication:
    return _payload(publication, metrics=tuple(change(metric) for metric in publication.payload.metrics))


@bug(START, "payloads-sequence-num-incrementing", "payloads-ddata-seq-inc")
def a_number_is_skipped() -> Iterator[None]:
    def skip(original: Any, self: Any, verb: Any, *rest: Any) -> Any:
        self._seq = (self._seq + (verb == "DDATA")) % 256
        return original(self, verb, *rest)

    with _around(Messages, "_publication", skip):
        yield


@bug(REBIRTHS, "topics-nbirth-seq-num", "payloads-sequence-num-zero-nbirth")
def nbirth_goes_on_counting() -> Iterator[None]:
    def go_on(original: Any, self: Any, member: Any, *rest: Any) -> Any:
        went = self._seq
        made = original(self, member, *rest)
        if not member.device:
            self._seq = (went + 1) % 256
            return _payload(made, seq=went)
        return made

    with _around(Messages, "birth", go_on):
        yield


@bug(REBIRTHS, "operational-behavior-data-commands-rebirth-action-3", "topics-nbirth-bdseq-matching")
def a_rebirth_takes_a_new_bdseq() -> Iterator[None]:
    def rise(original: Any, self: Any, *rest: Any, **named: Any) -> Any:
        self.bd_seq += 1
        return original(self, *rest, **named)

    with _around(Session, "rebirth", rise):
        yield


@bug(
    BREAKS,
    "topics-nbirth-bdseq-increment",
    "message-flow-edge-node-birth-publish-will-message-payload-bdSeq",
)
def bdseq_stands_still() -> Iterator[None]:
    async def zero(*_: Any) -> int:
        return 0

    with patch.object(edge_node, "take_bdseq", zero):
        yield


@bug(START, "topics-nbirth-mqtt", "payloads-nbirth-retain")
def births_are_retained() -> Iterator[None]:
    def retain(original: Any, self: Any, topic: str, payload: bytes, **named: Any) -> Any:
        return original(self, topic, payload, **{**named, "retain": "/NBIRTH/" in topic})

    with _around(Link, "publish", retain):
        yield


@bug(START, "topics-ddata-mqtt", "payloads-ddata-qos")
def data_has_qos_1() -> Iterator[None]:
    def surely(original: Any, self: Any, topic: str, payload: bytes, **named: Any) -> Any:
        return original(self, topic, payload, **{**named, "qos": int("/DDATA/" in topic)})

    with _around(Link, "publish", surely):
        yield


@bug(START, "message-flow-device-birth-publish-nbirth-wait")
def devices_are_born_first() -> Iterator[None]:
    def backwards(original: Any, self: Any, *rest: Any) -> Any:
        return tuple(reversed(original(self, *rest)))

    with _around(Session, "_births", backwards):
        yield


@bug(START, "payloads-alias-uniqueness")
def every_device_begins_its_aliases_anew() -> Iterator[None]:
    def anew(original: Any, self: Any, device: str, picture: Any, aliases: Any) -> None:
        original(self, device, picture, count(1))

    with _around(Member, "__init__", anew):
        yield


@bug(START, "payloads-metric-datatype-req", "topics-nbirth-metrics", "topics-dbirth-metrics")
def births_have_no_data_types() -> Iterator[None]:
    def bare(original: Any, self: Any, *rest: Any) -> Any:
        return _payload(original(self, *rest), typed=False)

    with _around(Messages, "birth", bare):
        yield


@bug(BREAKS, "operational-behavior-data-publish-dbirth-order")
def a_replay_passes_for_the_present() -> Iterator[None]:
    def present(original: Any, self: Any, *rest: Any) -> Any:
        return [
            _metrics(publication, lambda metric: _but(metric, historical=False))
            for publication in original(self, *rest)
        ]

    with _around(Messages, "history", present):
        yield


@bug(BREAKS, "payloads-metric-timestamp-in-UTC")
def history_is_dated_when_it_is_told() -> Iterator[None]:
    def dated(original: Any, self: Any, member: Any, points: Any, now: Any) -> Any:
        return [
            _metrics(publication, lambda metric: _but(metric, at=now.at))
            for publication in original(self, member, points, now)
        ]

    with _around(Messages, "history", dated):
        yield


def _without_quality(metric: Any, unwanted: Callable[[Any], bool]) -> Any:
    kept = {
        key: value
        for key, value in metric.properties.items()
        if key != "Quality" or not unwanted(value.value)
    }
    return _but(metric, properties=kept)


@bug(QUALITY, "payloads-propertyset-quality-value-value")
def births_call_everything_good() -> Iterator[None]:
    def good(original: Any, self: Any, *rest: Any) -> Any:
        return _metrics(original(self, *rest), lambda metric: _without_quality(metric, lambda _: True))

    with _around(Messages, "birth", good):
        yield


@bug(QUALITY, "payloads-propertyset-quality-value-value")
def bad_is_never_taken_back() -> Iterator[None]:
    def kept(original: Any, self: Any, *rest: Any) -> Any:
        return _metrics(
            original(self, *rest), lambda metric: _without_quality(metric, lambda quality: quality == 192)
        )

    with _around(Messages, "_said", kept):
        yield


@bug("a host writes", "topics-dcmd-topic", "operational-behavior-data-commands-dcmd-verb")
def a_write_is_done_twice() -> Iterator[None]:
    async def twice(original: Any, self: Any, *rest: Any) -> None:
        await original(self, *rest)
        await original(self, *rest)

    with _around(Writes, "_write", twice):
        yield


@bug(START, "topics-ddata-payload")
def a_state_shows_in_births_only() -> Iterator[None]:
    def stuck(original: Any, self: Any, member: Any, changes: Any, now: Any) -> Any:
        return original(self, member, [c for c in changes if c.point.name != "State"], now)

    with _around(Messages, "data", stuck):
        yield


@bug(START, "topics-ndeath-seq", "payloads-ndeath-seq")
def ndeath_is_counted() -> Iterator[None]:
    def counted(original: Any, self: Any, *rest: Any) -> Any:
        return _payload(original(self, *rest), seq=0)

    with _around(Messages, "death", counted):
        yield


@bug(
    START,
    "operational-behavior-edge-node-intentional-disconnect-ndeath",
    "payloads-ndeath-will-message-publisher",
)
def it_goes_without_a_word() -> Iterator[None]:
    def silent(original: Any, self: Any, *rest: Any) -> Any:
        original(self, *rest)
        return ()

    with _around(Session, "leave", silent):
        yield


@bug(START, "payloads-ndeath-will-message-publisher-disconnect-mqtt50")
def it_takes_the_will_away() -> Iterator[None]:
    async def without(original: Any, self: Any, timeout_s: float, **named: Any) -> Any:
        return await original(self, timeout_s, **{**named, "with_will": False})

    with _around(Link, "stop", without):
        yield


@bug(START, "message-flow-edge-node-birth-publish-will-message-qos", "payloads-ndeath-will-message-qos")
def the_will_may_get_lost() -> Iterator[None]:
    with patch.object(edge_node, "Will", lambda *rest, **named: Will(*rest, **{**named, "qos": 0})):
        yield


@bug(START, "payloads-alias-data-cmd-requirement")
def data_says_its_names() -> Iterator[None]:
    def named(original: Any, self: Any, member: Any, *rest: Any) -> Any:
        return _metrics(
            original(self, member, *rest),
            lambda metric: _but(metric, name=member.by_alias[metric.alias]),
        )

    with _around(Messages, "_said", named):
        yield


@bug(START, "operational-behavior-data-commands-rebirth-name-aliases")
def rebirth_has_an_alias() -> Iterator[None]:
    def alias(original: Any, self: Any, device: str, *rest: Any) -> None:
        original(self, device, *rest)
        self.alias.setdefault(births.NODE_REBIRTH, 999_999) if not device else None

    with _around(Member, "__init__", alias):
        yield


@bug(HOST, "operational-behavior-edge-node-termination-host-offline-timestamp")
def an_old_death_of_the_host_is_believed() -> Iterator[None]:
    def forget(original: Any, self: Any, *rest: Any, **named: Any) -> Any:
        if self.online:
            self._newest_ms.clear()
        return original(self, *rest, **named)

    with _around(PrimaryHost, "judge", forget):
        yield


@bug(
    HOST,
    "message-flow-edge-node-birth-publish-phid-wait",
    "operational-behavior-edge-node-birth-sequence-wait",
)
def nobody_waits_for_the_host() -> Iterator[None]:
    async def at_once(_: Any) -> None:
        return None

    with patch.object(Inbox, "host_online", at_once):
        yield
