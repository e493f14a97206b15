"""Looks around in a Modbus device for `andon browse`: SunSpec, the one layout that describes itself.

Modbus has no directory: of any other device only its manual says what stands where. The walk is in `sunspec`,
the reading in `probe`; this puts them together and says what was found in the words of browsing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from struct import Struct

from connectors.browsing import Finding, Found, Query, Remark
from connectors.modbus.config import ModbusSettings
from connectors.modbus.plan import ReadRequest
from connectors.modbus.probe import Probe, Silent
from connectors.modbus.sunspec import BASES, Block, Proposal, Survey, proposals, walk
from connectors.protocol import Environment


async def browse(
    settings: ModbusSettings, query: Query, environment: Environment
) -> AsyncGenerator[Finding, None]:
    """What SunSpec models a device has, and their points as tags. See `connectors.protocol.Browse`."""
    async with Probe(settings, environment.clock) as probe:
        survey = await _survey(settings, probe)
    if survey.base is None:
        places = ", ".join(f"holding:{base}" for base in BASES)
        yield Remark(
            f"no SunSpec marker at {places}, and nothing else in Modbus says what a device holds: "
            f"its manual does, and andon read --orders {settings.endpoint} holding:0 shows registers"
        )
        return
    yield Remark(
        f"SunSpec from holding:{survey.base} on; scale factors are those of now, and a device that changes "
        "them while it runs needs them read as tags"
    )
    matches = query.matcher()
    told = 0
    for finding in _findings(survey, query):
        if matches(finding):
            if told == query.limit:
                yield Remark(
                    f"there is more: this ends after {query.limit}; choose with --filter or --search"
                )
                return
            told += 1
            yield finding
    if survey.remark:
        yield Remark(survey.remark)


async def _survey(settings: ModbusSettings, probe: Probe) -> Survey:
    """Walk, reading what the walk asks for. Silence is a refusal, as long as something else is answered."""
    limits = settings.limits.for_plan()
    steps = walk(limits)
    request = next(steps)
    silence: Silent | None = None
    heard = False
    while True:
        words = None
        if limits.forbids(request.table, request.start, request.end) is None:
            try:
                words = _words(request, await probe.read(request))
                heard = True
            except Silent as silent:
                silence = silent
        try:
            request = steps.send(words)
        except StopIteration as end:
            if silence is not None and not heard:
                raise silence from None
            survey: Survey = end.value
            return survey


def _words(request: ReadRequest, data: bytes | None) -> tuple[int, ...] | None:
    return None if data is None else Struct(f">{request.count}H").unpack(data)


def _findings(survey: Survey, query: Query) -> Iterable[Found]:
    """The models in order, each followed by its points."""
    seen: dict[int, int] = {}
    for block in survey.blocks:
        seen[block.id] = number = seen.get(block.id, 0) + 1
        name = f"{block.id}" if number == 1 else f"{block.id}-{number}"
        yield _model(block, name)
        if query.depth is None or query.depth > 1:
            for proposal in proposals(block):
                yield _point(proposal, name, query)


def _model(block: Block, name: str) -> Found:
    text = f"{block.title}, {block.length} registers"
    if block.registers and block.model is not None and block.length < block.model.length:
        text += f", an older form ({block.model.length} are known)"
    elif not block.registers:
        text += ", its points are not known here"
    return Found(f"holding:{block.start}", (name,), "object", type=f"model {block.id}", description=text)


def _point(proposal: Proposal, model: str, query: Query) -> Found:
    point = proposal.point
    settings: list[tuple[str, bool | int | float | str]] = [("type", proposal.type)]
    if proposal.scale != 1.0:
        settings.append(("scale", proposal.scale))
    if proposal.no_value is not None:
        settings.append(("no_value", proposal.no_value))
    problem = proposal.problem or ("not implemented by this device" if proposal.absent else "")
    return Found(
        str(proposal.address),
        (model, point.name),
        type=point.type,
        value=proposal.value if query.values else None,
        problem=problem,
        unit=point.unit,
        description=proposal.description,
        settings=tuple(settings),
    )
