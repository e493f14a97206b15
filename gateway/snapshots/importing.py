"""From the folder of a journal that no gateway goes on with into the database, exactly once.

Rows and the cursor of that stream move in one transaction, as the historian does it: an import that was cut
off goes on where it stopped, and one that is made twice changes nothing. A gateway that runs writes another
stream and is not disturbed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from gateway.config.load import Loaded
from gateway.config.schema import HistorianSettings
from gateway.errors import GatewayError
from gateway.historian.connection import place_of
from gateway.historian.lanes import Held
from gateway.historian.portions import Missing, read_portion
from gateway.historian.session import CursorMoved, Refused, Session, open_session
from gateway.historian.values import EquipmentMeta, TagMeta
from gateway.journal.survey import look
from gateway.journal.values import Cursor, Damage
from gateway.snapshots.foreign import ForeignJournal

#: So often in a row another process may move the cursor before we give way.
_MOVED_MAX = 20


class ImportRefused(GatewayError):
    """A folder is not one that may be imported here. Nothing was written."""

    exit_code = 2


class Imported(msgspec.Struct, frozen=True):
    """What an import has written so far, and what it could not.

    `events` and `samples` were written by this import. `missing` lists numbers the folder could not give,
    `set_aside` counts rows the database would not take.
    """

    stream: str
    last: Cursor
    cursor: Cursor
    events: int = 0
    samples: int = 0
    set_aside: int = 0
    missing: tuple[Missing, ...] = ()
    damage: tuple[Damage, ...] = ()


def refuse_live(directory: Path) -> None:
    """A journal that its gateway has open is handed on by that gateway.

    Raises:
        ImportRefused: it is one.
    """
    survey = look(directory) if (directory / "lock").exists() else None
    if survey is not None and survey.holder:
        raise ImportRefused(
            f"the journal in {directory} is open by process {survey.holder}, which hands it on itself",
            hint="name the folder of a journal that was set aside",
        )


async def import_folder(
    journal: ForeignJournal, loaded: Loaded, dsn: str, *, progress: Callable[[Imported], None]
) -> Imported:
    """Write everything the database does not hold yet of that stream.

    Raises:
        ImportRefused: the journal is of another gateway, or the database knows the stream otherwise.
        SinkUnavailable, SinkRefused: the database is away, or will not have us; import again to go on.
    """
    gateway, settings = loaded.configuration.gateway.id, loaded.configuration.historian
    assert settings is not None, "the caller has a database"
    if journal.gateway != gateway:
        raise ImportRefused(
            f'the journal in {journal.directory} belongs to gateway "{journal.gateway}", '
            f'the configuration to "{gateway}"',
            hint="name the configuration of that gateway",
        )
    async with open_session(
        dsn,
        place=place_of(dsn),
        gateway=gateway,
        stream=journal.stream,
        settings=settings,
        tags=tags_of(loaded),
        equipment=equipment_of(loaded),
        late=True,
    ) as session:
        return await _Import(journal, session, settings, progress).run()


def tags_of(loaded: Loaded) -> dict[str, TagMeta]:
    """The tags of a configuration as the database has them."""
    return {
        connection.tag_id(tag): TagMeta(connection.name, tag.name, tag.unit)
        for connection in loaded.configuration.connections
        for tag in connection.tags()
    }


def equipment_of(loaded: Loaded) -> dict[str, EquipmentMeta]:
    """The equipment of a configuration as the database has it."""
    return {spec.name: EquipmentMeta(spec.path, spec.model.name) for spec in loaded.equipment}


class _Import:
    """One import through one session."""

    def __init__(
        self,
        journal: ForeignJournal,
        session: Session,
        settings: HistorianSettings,
        progress: Callable[[Imported], None],
    ) -> None:
        self._journal, self._session, self._settings, self._progress = journal, session, settings, progress
        position = journal.position
        self._last = Cursor(position.last_seq, position.last_batch)
        self._done = Imported(journal.stream, self._last, Cursor())

    async def run(self) -> Imported:
        moved = 0
        while True:
            try:
                held = await self._session.held()
                await self._compare(held)
                await self._fill(held)
                return msgspec.structs.replace(self._done, damage=tuple(self._journal.damage))
            except CursorMoved as error:
                moved += 1
                if moved > _MOVED_MAX:
                    raise ImportRefused(
                        f"somebody else writes the stream {self._journal.stream} at the same time",
                        hint="is another import under way? let it end",
                    ) from error

    async def _compare(self, held: Held) -> None:
        """What the database has of this stream must be what the folder has.

        Raises:
            ImportRefused: it is not.
        """
        for up_to in (held.cursor.seq, *(r.up_to.seq for r in held.beyond)):
            known = await self._session.event_up_to(min(up_to, self._last.seq))
            for event in await self._journal.read(known[0] - 1, 1) if known is not None else ():
                if known is not None and event.seq == known[0] and event.json != known[1]:
                    raise ImportRefused(
                        f"the database has event {event.seq} of {self._journal.stream} as something else",
                        hint="this folder is not what the database was written from; nothing was written",
                    )

    async def _fill(self, held: Held) -> None:
        self._tell(held)
        while True:
            end = held.hole_end
            up_to = self._last if end is None else _least(end, self._last)
            portion = await read_portion(
                self._journal, held.cursor, rows_max=self._settings.batch_rows, up_to=up_to
            )
            if portion is None:
                if end is None or held.cursor != end:
                    return
                await self._session.join(held)
                held = held.joined()
                continue
            set_aside = 0
            try:
                await self._session.write(portion, await self._session.pack(portion))
            except Refused:
                set_aside = await self._session.write_carefully(portion)
            held = held.moved(None, portion.after)
            done = self._done
            self._done = msgspec.structs.replace(
                done,
                events=done.events + len(portion.events),
                samples=done.samples + portion.samples,
                set_aside=done.set_aside + set_aside,
                missing=(*done.missing, *portion.missing),
            )
            self._tell(held)

    def _tell(self, held: Held) -> None:
        self._done = msgspec.structs.replace(self._done, cursor=held.cursor)
        self._progress(self._done)


def _least(one: Cursor, other: Cursor) -> Cursor:
    return Cursor(min(one.seq, other.seq), min(one.batch, other.batch))
