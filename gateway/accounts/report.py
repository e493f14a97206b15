"""The books as people, health and metrics see them. Implements `api.accounting.Accounts`.

Reads what the parts say of themselves when asked; counts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from api.accounting import AccountsView, Balance, FlowAccount, SinkAccount, TagAccount
from gateway.accounts.books import Books, Line
from gateway.accounts.keeper import Accounts
from gateway.accounts.values import Losses
from gateway.health import SinkOf
from gateway.waiting import Counts


class AccountsReport:
    """The books of a running gateway, the way of samples into them, and its sinks by name."""

    def __init__(self, accounts: Accounts, counts: Counts, sinks: Mapping[str, SinkOf]) -> None:
        self._accounts, self._counts, self._sinks = accounts, counts, sinks

    def view(self) -> AccountsView:
        """All tags together."""
        books = self._accounts.books
        sinks = [self._sink(name, status) for name, status in self._sinks.items()]
        wrong = [books.differences(sink) for sink in self._of_samples()]
        recorded, shed = books.sums()
        return AccountsView(
            stream=books.stream,
            since=books.since,
            adds_up=all(one.adds_up for one in sinks),
            difference=sum(abs(n) for one in wrong for n in one.values()),
            recorded=recorded,
            shed=shed,
            uncounted_batches=books.uncounted,
            flow=self._flow(recorded, shed),
            sinks=sinks,
        )

    def tag(self, tag: str) -> TagAccount:
        """One tag by its full id."""
        books = self._accounts.books
        lines = {sink: books.line(sink, tag) for sink in self._of_samples()}
        return _tag_account(books, tag, lines)

    def tags(self) -> Sequence[TagAccount]:
        """Every tag that was ever recorded or shed, by name."""
        books = self._accounts.books
        lines = {sink: books.lines(sink) for sink in self._of_samples()}
        return [
            _tag_account(books, tag, {sink: of[tag] for sink, of in lines.items() if tag in of})
            for tag in books.tags()
        ]

    def trouble(self) -> str | None:
        """Why the books do not add up, or None when they do."""
        for sink in self._of_samples():
            if wrong := self._accounts.books.differences(sink):
                count = sum(map(abs, wrong.values()))
                return (
                    f"{count} samples of {len(wrong)} tags are unaccounted for in {sink}: {min(wrong)}, ..."
                )
        return None

    def _of_samples(self) -> Sequence[str]:
        on_books = self._accounts.books.sinks()
        return [sink for sink in self._sinks if sink in on_books]

    def _sink(self, name: str, sink: SinkOf) -> SinkAccount:
        books, last = self._accounts.books, self._accounts.last_seq
        on_books = name in books.sinks()
        losses = books.losses(name) if on_books else Losses()
        samples = _balance(books.total(name)) if on_books else None
        buffered = sink.status().lag_events
        delivered = last - buffered - losses.events - losses.missing_events
        events = Balance(last, delivered, buffered, losses.events, losses.missing_events, 0)
        return SinkAccount(
            sink=name,
            adds_up=not (on_books and books.differences(name)),
            events=events,
            samples=samples,
            missing_batches=losses.missing_batches,
        )

    def _flow(self, recorded: int, shed: int) -> FlowAccount:
        counts = self._counts
        recorded_before, shed_before = self._accounts.before
        recorded, shed = recorded - recorded_before, shed - shed_before
        return FlowAccount(
            since=self._accounts.opened_at,
            received=counts.samples,
            made=counts.made,
            unchanged=counts.samples - counts.passed,
            by_rules=counts.passed + counts.made - counts.not_recorded - counts.recorded,
            not_recorded=counts.not_recorded,
            recorded=recorded,
            shed=shed,
            in_hand=counts.recorded - recorded - shed,
        )


def _tag_account(books: Books, tag: str, lines: Mapping[str, Line]) -> TagAccount:
    return TagAccount(
        tag=tag,
        recorded=books.recorded(tag),
        shed=books.shed_of(tag),
        adds_up=all(line.difference == 0 for line in lines.values()),
        sinks={sink: _balance(line) for sink, line in lines.items()},
    )


def _balance(line: Line) -> Balance:
    return Balance(
        line.recorded, line.delivered, line.buffered, line.set_aside, line.missing, line.difference
    )
