"""What a gateway can be asked without changing anything, one class a noun.

Every method raises `NoAnswer`, `Refused` and `BadAnswer` as `wire.ask` does. Times are aware; lists are
iterators that fetch page after page as they are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec

from api.accounting import AccountsView, TagAccount
from api.client.wire import PREFIX, Query, Wire, at
from api.compliance import RuleView, Violation
from api.ports import ConnectionView, EquipmentView, Interval, TagView
from api.reconciliation import Reconciliation
from api.schemas import KpiReport, TagBucketList
from statemodel.explain import Explanation
from statemodel.records import EquipmentState, ToldCorrection, ToldTransition
from statemodel.tag_history import DatedSample

T = TypeVar("T")

#: How much longer than a request may wait its answer may take.
_ON_THE_WAY_S = 5.0


class Page(msgspec.Struct, frozen=True):
    """A page of any list: what it has in common with all others."""

    items: Sequence[msgspec.Raw]
    next: str | None = None
    stream: str = ""
    seq: int = 0


class Snapshot(msgspec.Struct, frozen=True):
    """All equipment, and the cursor after which events follow on it without a gap."""

    items: Sequence[EquipmentView]
    cursor: str


class Waited(msgspec.Struct, frozen=True):
    """A state that was waited for; `moved` says whether it is another than the one known."""

    state: EquipmentState
    moved: bool


class Noun:
    """What all nouns have: the wire."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def _items(self, type_: type[T], path: str, query: Query, onward: str = "after") -> Iterator[T]:
        """All items of a list from a page on; `onward` is the parameter that takes `next`."""
        asked = dict(query)
        while True:
            page = self._wire.ask(Page, "GET", path, query=asked)
            for item in page.items:
                yield self._wire.read(bytes(item), type_)
            if page.next is None:
                return
            asked[onward] = page.next


class Equipment(Noun):
    """Machines and processes: states, how they came about, and figures of them."""

    def list(
        self,
        *,
        path: str | None = None,
        model: str | None = None,
        state: Sequence[str] | str | None = None,
        category: Sequence[str] | str | None = None,
        limit: int | None = None,
    ) -> Iterator[EquipmentView]:
        """Equipment in the order of the configuration; `limit` is that of a page."""
        query = {"path": path, "model": model, "state": state, "category": category, "limit": limit}
        return self._items(EquipmentView, f"{PREFIX}/equipment", query)

    def snapshot(self) -> Snapshot:
        """All equipment and a cursor, to begin with: `events.follow(snapshot.cursor)` misses nothing."""
        path, query = f"{PREFIX}/equipment", {"limit": 1000}
        first = page = self._wire.ask(Page, "GET", path, query=query)
        items = [*page.items]
        while page.next is not None:
            page = self._wire.ask(Page, "GET", path, query=query | {"after": page.next})
            items += page.items
        views = [self._wire.read(bytes(item), EquipmentView) for item in items]
        return Snapshot(views, f"{first.stream}:{first.seq}")

    def get(self, name: str) -> EquipmentView:
        """One equipment."""
        return self._wire.ask(EquipmentView, "GET", at("equipment", name))

    def state(
        self, name: str, *, at_: datetime | None = None, known_at: datetime | None = None
    ) -> EquipmentState:
        """The state now, or at an instant, as it is known now or was at another."""
        query = {"at": at_, "known_at": known_at}
        return self._wire.ask(EquipmentState, "GET", at("equipment", name, "state"), query=query)

    def wait(
        self, name: str, *, after: int | str | None = None, wait: timedelta = timedelta(seconds=30)
    ) -> Waited:
        """The state as soon as it has moved beyond `after` (the `seq` of the state known; None: the present
        one), or the same when nothing has happened in that time."""
        response = self._wire.request(
            "GET",
            at("equipment", name, "state"),
            query={"wait": wait, "after": after},
            timeout_s=wait.total_seconds() + _ON_THE_WAY_S,
        )
        state = self._wire.read(response.content, EquipmentState)
        return Waited(state, response.headers.get("andon-wait") == "moved")

    def transitions(
        self,
        name: str,
        *,
        after: int | str | None = None,
        from_: datetime | None = None,
        to: datetime | None = None,
        limit: int | None = None,
    ) -> Iterator[ToldTransition]:
        """Transitions, oldest first."""
        query = {"after": after, "from": from_, "to": to, "limit": limit}
        return self._items(ToldTransition, at("equipment", name, "transitions"), query)

    def timeline(
        self,
        name: str,
        *,
        from_: datetime | None = None,
        to: datetime | None = None,
        known_at: datetime | None = None,
    ) -> Iterator[Interval]:
        """The states as intervals, without holes."""
        query = {"from": from_, "to": to, "known_at": known_at}
        return self._items(Interval, at("equipment", name, "timeline"), query, onward="from")

    def explain(self, name: str, *, seq: int | None = None, at_: datetime | None = None) -> Explanation:
        """Why it is in its state, was at an instant, or made a transition."""
        query = {"seq": seq, "at": at_}
        return self._wire.ask(Explanation, "GET", at("equipment", name, "explain"), query=query)

    def kpi(
        self,
        name: str,
        *,
        from_: datetime | None = None,
        to: datetime | None = None,
        known_at: datetime | None = None,
        bucket: str | None = None,
        tz: str | None = None,
        shifts: str | None = None,
    ) -> KpiReport:
        """Durations and key figures."""
        query = {"from": from_, "to": to, "known_at": known_at, "bucket": bucket, "tz": tz, "shifts": shifts}
        return self._wire.ask(KpiReport, "GET", at("equipment", name, "kpi"), query=query)

    def corrections(
        self,
        name: str,
        *,
        from_: datetime | None = None,
        to: datetime | None = None,
        known_at: datetime | None = None,
    ) -> Iterator[ToldCorrection]:
        """Corrections that touch a range, in the order they were recorded."""
        query = {"from": from_, "to": to, "known_at": known_at}
        return self._items(ToldCorrection, at("equipment", name, "corrections"), query)


class Tags(Noun):
    """The signals a gateway reads. Names are full: `connection/tag`."""

    def list(
        self,
        *,
        connection: str | None = None,
        equipment: str | None = None,
        quality: str | None = None,
        limit: int | None = None,
    ) -> Iterator[TagView]:
        """Tags with their latest samples."""
        query = {"connection": connection, "equipment": equipment, "quality": quality, "limit": limit}
        return self._items(TagView, f"{PREFIX}/tags", query)

    def get(self, tag: str) -> TagView:
        """One tag with its latest sample."""
        return self._wire.ask(TagView, "GET", self._at(tag))

    def samples(
        self, tag: str, *, from_: datetime | None = None, to: datetime | None = None
    ) -> Iterator[DatedSample]:
        """Recorded samples, oldest first."""
        return self._items(DatedSample, self._at(tag, "history"), {"from": from_, "to": to})

    def buckets(
        self,
        tag: str,
        bucket: str,
        *,
        from_: datetime | None = None,
        to: datetime | None = None,
        aggregate: Sequence[str] | None = None,
        tz: str | None = None,
    ) -> TagBucketList:
        """A tag summed up over stretches of time."""
        query = {"bucket": bucket, "from": from_, "to": to, "aggregate": aggregate, "tz": tz}
        return self._wire.ask(TagBucketList, "GET", self._at(tag, "history"), query=query)

    def account(self, tag: str) -> TagAccount:
        """What was recorded of it, and where it is now."""
        return self._wire.ask(TagAccount, "GET", self._at(tag, "account"))

    def _at(self, tag: str, *more: str) -> str:
        connection, _, name = tag.partition("/")
        return at("tags", connection, name, *more)


class Connections(Noun):
    """The links to devices."""

    def list(self, *, link: Sequence[str] | str | None = None) -> Iterator[ConnectionView]:
        """Connections and the state of each link."""
        return self._items(ConnectionView, f"{PREFIX}/connections", {"link": link})

    def get(self, name: str) -> ConnectionView:
        """One connection."""
        return self._wire.ask(ConnectionView, "GET", at("connections", name))


class Models(Noun):
    """State models."""

    def names(self) -> Iterator[str]:
        """Built-in models first."""
        for item in self._items(dict, f"{PREFIX}/models", {}):
            yield str(item["name"])

    def get(self, name: str) -> Mapping[str, Any]:
        """States, transitions and rules."""
        return self._wire.ask(dict, "GET", at("models", name))


class Accounts(Noun):
    """Loss accounting."""

    def get(self) -> AccountsView:
        """The books."""
        return self._wire.ask(AccountsView, "GET", at("accounts"))

    def tags(self, *, only: str | None = None) -> Iterator[TagAccount]:
        """The account of every tag; `only="lost"` those of which something is."""
        return self._items(TagAccount, at("accounts", "tags"), {"only": only})

    def reconciliations(self) -> Sequence[Reconciliation]:
        """The newest comparisons of memory, journal, database and broker."""
        return list(self._items(Reconciliation, at("reconciliations"), {}))


class Compliance(Noun):
    """What the plant promised itself."""

    def rules(self) -> Sequence[RuleView]:
        """All rules and how they stand."""
        return list(self._items(RuleView, at("compliance"), {}))

    def violations(
        self,
        *,
        from_: datetime | None = None,
        to: datetime | None = None,
        rule: str | None = None,
        equipment: str | None = None,
    ) -> Iterator[Violation]:
        """What was not kept."""
        query = {"from": from_, "to": to, "rule": rule, "equipment": equipment}
        return self._items(Violation, at("compliance", "violations"), query)


class Health(Noun):
    """The gateway itself."""

    def live(self) -> bool:
        """Whether its process does its work."""
        return bool(self._report("/healthz").get("status") == "ok")

    def ready(self) -> Mapping[str, Any]:
        """The report of every part, also when it is not ready."""
        return self._report("/readyz")

    def metrics(self) -> str:
        """Prometheus text."""
        return self._wire.request("GET", "/metrics").text

    def openapi(self) -> Mapping[str, Any]:
        """The description of the API."""
        return self._wire.ask(dict, "GET", "/openapi.json")

    def _report(self, path: str) -> dict[str, Any]:
        return self._wire.report(path)
