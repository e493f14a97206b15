"""The kinds of difference: what each means, what mends it, and whether the gateway may do that by itself.

One table, from which reports, documentation and repairs follow. What is history is never overwritten: where
two records of one event differ, that is evidence, and a person decides.
"""

from __future__ import annotations

import msgspec


class Kind(msgspec.Struct, frozen=True):
    """One kind of difference. `harmless`: mended by itself; `asked`: mended only when asked for."""

    word: str
    meaning: str
    remedy: str
    harmless: bool = False
    asked: bool = False


_RESTART = "restart the gateway: it reads the journal anew; if it comes back, keep the journal and tell us"
_EVIDENCE = (
    "nothing is overwritten: look who else writes to this database, or which copy of the journal was put back"
)

KINDS: dict[str, Kind] = {
    kind.word: kind
    for kind in (
        Kind("live_differs", "what REST shows is not the newest transition of the journal", _RESTART),
        Kind("engine_differs", "the engine's state is not the newest transition of the journal", _RESTART),
        Kind(
            "event_missing",
            "an event of the journal, below the database's cursor, has no row",
            "the gateway writes it again from the journal",
            harmless=True,
        ),
        Kind("event_differs", "journal and database hold different bytes under one number", _EVIDENCE),
        Kind(
            "event_unknown",
            "the database has an event the journal cannot give",
            "`andon journal verify` says whether the journal is damaged; the database's row is kept",
        ),
        Kind("columns_differ", "the columns of a transition do not say what its body says", _EVIDENCE),
        Kind("database_ahead", "the database holds numbers the journal has not given out", _EVIDENCE),
        Kind(
            "state_missing",
            "the database's newest state is older than its cursor says",
            "the gateway writes the transition again from the journal",
            harmless=True,
        ),
        Kind("state_differs", "`andon.current_state` is not the newest transition of the journal", _EVIDENCE),
        Kind(
            "sequence_gap",
            "the transitions of an equipment have a gap or do not follow from each other",
            "`andon reconcile --full --repair` writes again what the journal still has",
        ),
        Kind(
            "samples_missing",
            "samples of the journal, below the database's cursor, have no row",
            "look who deletes from andon.sample; what is lost there cannot be written again one by one",
        ),
        Kind("samples_doubled", "the database holds a sample more often than the journal", _EVIDENCE),
        Kind(
            "retained_missing",
            "the broker has lost a retained topic",
            "the gateway publishes it again",
            harmless=True,
        ),
        Kind(
            "retained_differs",
            "a retained topic is older than what is true, or something else",
            "the gateway publishes it again",
            harmless=True,
        ),
        Kind(
            "retained_newer",
            "a retained topic is newer than anything this gateway has said",
            "look for another gateway with the same equipment or id; never published over",
        ),
        Kind(
            "left_over",
            "a retained topic of equipment or a tag that is no longer configured",
            "cleared by itself at the next connect, unless mqtt.clear_removed = false; then with "
            "`andon reconcile --repair`",
            asked=True,
        ),
    )
}


class Finding(msgspec.Struct, frozen=True):
    """A difference as the comparison sees it. `seq` and `topic` are what a repair needs.

    `certain`: a left-over is ours beyond doubt, so that it may be cleared without being asked.
    """

    kind: str
    place: str
    expected: str
    found: str
    equipment: str = ""
    seq: int = 0
    topic: str = ""
    certain: bool = True

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same one at a second look: what is expected may have moved on by then."""
        return self.kind, self.place, self.found
