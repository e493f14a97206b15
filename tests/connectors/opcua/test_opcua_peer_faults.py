"""What goes wrong between the gateway and a server of another stack, and that no loss goes unsaid."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from connectors.errors import ConnectionLost, ConnectorError, DeviceRefused
from connectors.opcua.connector import OpcuaConnector
from statemodel.types import Quality
from tests.connectors.contract import PATIENCE_S, PROMPT_S, RecordingLink, outcome, running
from tests.connectors.opcua.cable import Cable
from tests.connectors.opcua.plant import Plant, build
from tests.support.peer import URI, VARIABLES, Peer, running_peer, variables
from tests.support.server_certificate import make_certificate


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    async with running_peer(tmp_path) as peer:
        yield peer


@pytest.fixture
async def cable(peer: Peer) -> AsyncIterator[Cable]:
    cable = Cable(peer.port)
    await cable.start()
    yield cable
    await cable.stop()


def group(name: str, *names: str, **more: Any) -> dict[str, Any]:
    tags = [{"name": one, "node": f"nsu={URI};s={one}", "sampling": "0s", "queue_size": 50} for one in names]
    return {"name": name, "interval": "50ms", "tags": tags, **more}


def connector(peer: Peer, tmp_path: Path, **more: Any) -> OpcuaConnector:
    settings = {"groups": [group("fast", "state", "speed")], "keep_alive": "1s"} | more
    return build(Plant(peer.port), tmp_path / "data", **settings)


def values(link: RecordingLink, tag: str) -> list[Any]:
    return [sample.value for sample in link.samples if sample.tag == tag]


async def up(link: RecordingLink) -> None:
    await link.until_value("plc/state", 6)
    await link.until_value("plc/speed", 1.5)


# The connection


async def test_a_reset_costs_nothing_the_server_has_kept(peer: Peer, cable: Cable, tmp_path: Path) -> None:
    # Fault 23.
    await peer.start()
    one = connector(peer, tmp_path, endpoint=cable.endpoint)
    before = RecordingLink()
    async with running(one, before) as task:
        await up(before)
        held = (await peer.stats())["subscriptions"]
        cable.pull()
        assert isinstance(await outcome(task), ConnectionLost)
    for value in (1, 2, 3, 1):
        await peer.set("state", value)
    link = RecordingLink()
    async with running(one, link):
        await link.until_value("plc/speed", 1.5)
        await peer.set("state", 9)
        await link.until_value("plc/state", 9)
        kept = (await peer.stats())["subscriptions"]
    assert [one["id"] for one in kept] == [one["id"] for one in held]
    # This server may say the latest value again to a session that comes back, with the time it said before.
    told = groupby((s.value, s.source_at) for s in link.samples if s.tag == "plc/state")
    assert [value for (value, _), _ in told] == [1, 2, 3, 1, 9]
    assert (link.gaps, one.losses.message_count) == ([], 0)


async def test_a_pulse_whose_answer_got_lost_is_told_or_a_gap(
    peer: Peer, cable: Cable, tmp_path: Path
) -> None:
    # Fault 24: answers vanish after a keep-alive, then the connection is reset.
    await peer.start()
    one = connector(peer, tmp_path, endpoint=cable.endpoint)
    before = RecordingLink()
    async with running(one, before) as task:
        await up(before)
        cycles = len(before.cycles)
        await before.until(lambda: len(before.cycles) > cycles + 1, "keep-alives")
        cable.deaf = True
        for value in (2, 1):
            unacknowledged = (await peer.stats())["subscriptions"][0]["unacknowledged"]
            await peer.set("state", value)
            await published(peer, unacknowledged)
        cable.pull()
        assert isinstance(await outcome(task), ConnectionLost)
    cable.deaf = False
    link = RecordingLink()
    async with running(one, link):
        await link.until_value("plc/speed", 1.5)
        await peer.set("state", 9)
        await link.until_value("plc/state", 9)
    assert values(before, "plc/state") == [6]
    # This server says the latest value again to a session that comes back, with the time it has said before.
    told = [(s.value, s.source_at) for s in link.samples if s.tag == "plc/state"]
    assert [value for value, _ in dict.fromkeys(told)] == [2, 1, 9]
    assert (link.gaps, one.losses.message_count) == ([], 0)


async def published(peer: Peer, more_than: int) -> None:
    """Wait until the server has sent another message."""
    async with asyncio.timeout(PATIENCE_S):
        while (await peer.stats())["subscriptions"][0]["unacknowledged"] <= more_than:
            await asyncio.sleep(0.01)


async def test_a_server_that_freezes_is_lost_in_time_from_the_moment_it_froze(
    peer: Peer, tmp_path: Path
) -> None:
    # Fault 28: the connection stays open, keep-alives stop.
    await peer.start()
    link = RecordingLink()
    async with running(connector(peer, tmp_path), link) as task:
        await up(link)
        os.kill(peer.pid, signal.SIGSTOP)
        try:
            frozen_s = monotonic()
            error = await outcome(task)
            noticed_at, noticed_s = datetime.now(UTC), monotonic() - frozen_s
        finally:
            os.kill(peer.pid, signal.SIGCONT)
    assert isinstance(error, ConnectionLost)
    assert error.last_seen_at is not None
    assert error.last_seen_at <= noticed_at - timedelta(seconds=2), "then it was silent for so long"
    assert noticed_s < PROMPT_S, "and not only when a request has waited for as long as it may"


# The server


async def test_a_restarted_server_is_read_anew_wherever_its_namespaces_are(
    peer: Peer, tmp_path: Path
) -> None:
    # Fault 25: subscription ids are others, indexes have moved, values too.
    await peer.start()
    one = connector(peer, tmp_path)
    link = RecordingLink()
    async with running(one, link) as task:
        await up(link)
        first = (await peer.stats())["subscriptions"]
        await peer.stop()
        assert isinstance(await outcome(task), ConnectionLost)
    assert peer.namespace == 2
    peer.options |= {"namespaces": ["urn:a", "urn:b"], "variables": variables([("state", "Int32", 11)])}
    await peer.start()
    assert peer.namespace == 4
    link = RecordingLink()
    async with running(one, link):
        await link.until_value("plc/state", 11)
        await link.until_quality("plc/speed", Quality.BAD)
        second = (await peer.stats())["subscriptions"]
        await peer.order("add", name="speed", type="Double", value=3.0)
    assert {one["id"] for one in first}.isdisjoint(one["id"] for one in second)
    assert values(link, "plc/state") == [11]


@pytest.mark.parametrize("what", ["drop_sessions", "drop_subscriptions", "drop_connections"])
async def test_what_the_server_drops_is_noticed_and_made_again(peer: Peer, tmp_path: Path, what: str) -> None:
    await peer.start()
    one = connector(peer, tmp_path)
    link = RecordingLink()
    async with running(one, link) as task:
        await up(link)
        await peer.order(what)
        error = await outcome(task)
    assert isinstance(error, ConnectionLost), error
    assert "silent" not in error.reason, "it is noticed at once"
    link = RecordingLink()
    async with running(one, link):
        await up(link)
        await peer.set("state", 8)
        await link.until_value("plc/state", 8)


async def test_a_server_that_says_it_shuts_down_is_lost_before_it_has(peer: Peer, tmp_path: Path) -> None:
    await peer.start()
    link = RecordingLink()
    async with running(connector(peer, tmp_path), link) as task:
        await up(link)
        stopping = asyncio.create_task(peer.stop(notice_s=8))
        error = await outcome(task)
        assert not stopping.done(), "noticed from what it says, not from its end"
        await stopping
    assert isinstance(error, ConnectionLost)
    assert "shutting down" in error.reason


# What it takes

_MANY = [(f"v{number}", "Int32", number) for number in range(500)]


async def test_499_of_500_go_on_when_one_is_refused(peer: Peer, tmp_path: Path) -> None:
    # Fault 30, in messages of at most 100 notifications, so that one change needs several.
    peer.options |= {"variables": variables(_MANY), "notifications": 100}
    await peer.start()
    await peer.order("remove", name="v7")
    names = [name for name, *_ in _MANY]
    one = connector(peer, tmp_path, groups=[group("all", *names)])
    link = RecordingLink()
    async with running(one, link):
        await link.until(lambda: len(link.latest) == 500, "all of them")
        await peer.order("set", many=[[name, {"value": n + 1000}] for name, _, n in _MANY if name != "v7"])
        await link.until(
            lambda: all(link.latest[f"plc/{name}"].value == n + 1000 for name, _, n in _MANY if n != 7),
            "all changes",
        )
    assert {tag for tag, _ in link.refusals} == {"plc/v7"}
    assert "BadNodeIdUnknown" in dict(link.refusals)["plc/v7"]
    assert [s.substatus for s in link.samples if s.tag == "plc/v7"] == ["configuration_error"]
    assert all(values(link, f"plc/{name}") == [n, n + 1000] for name, _, n in _MANY if n != 7)
    assert (link.gaps, one.losses.message_count) == ([], 0)


async def test_a_node_nobody_may_read_is_bad_by_name_and_the_rest_is_good(peer: Peer, tmp_path: Path) -> None:
    secret = {"name": "secret", "type": "Int32", "value": 1, "access": 0}
    peer.options["variables"] = [*variables(VARIABLES), secret]
    await peer.start()
    link = RecordingLink()
    async with running(connector(peer, tmp_path, groups=[group("g", "state", "speed", "secret")]), link):
        await up(link)
        sample = await link.until_quality("plc/secret", Quality.BAD)
    assert sample.value is None
    assert sample.substatus in ("configuration_error", "not_readable", "user_access_denied")


async def test_small_limits_of_a_server_are_kept(peer: Peer, tmp_path: Path) -> None:
    limits = {"maxNodesPerRead": 10, "maxMonitoredItemsPerCall": 7, "maxNodesPerBrowse": 5}
    limits["maxNodesPerTranslateBrowsePathsToNodeIds"] = 3
    peer.options |= {
        "variables": variables(_MANY[:60]),
        "capabilities": {"operationLimits": limits},
    }
    await peer.start()
    names = [name for name, *_ in _MANY[:60]]
    paths = group("paths", *names[:20])
    for tag in paths["tags"]:
        tag["node"] = f"/Objects/nsu={URI};Plant/nsu={URI};{tag['name']}"
        tag["name"] = f"by-path-{tag['name']}"
    one = connector(peer, tmp_path, groups=[group("ids", *names[20:]), paths | {"interval": "1s"}])
    link = RecordingLink()
    async with running(one, link):
        await link.until(lambda: len(link.latest) == 60, "all of them")
    assert all(sample.quality is Quality.GOOD for sample in link.latest.values())
    assert link.refusals == []
    assert [sample.value for sample in await one.read_once()] == [*range(20, 60), *range(20)]


async def test_a_group_without_a_subscription_left_is_polled(peer: Peer, tmp_path: Path) -> None:
    peer.options["capabilities"] = {"maxSubscriptionsPerSession": 1}
    await peer.start()
    link = RecordingLink()
    async with running(connector(peer, tmp_path, groups=[group("a", "state"), group("b", "speed")]), link):
        await up(link)
        await peer.set("state", 7)
        await peer.set("speed", 2.5)
        await link.until_value("plc/state", 7)
        await link.until_value("plc/speed", 2.5)
        assert [one["items"] for one in (await peer.stats())["subscriptions"]] == [1]


# Who it is: fault 31

SECURE = {"security": {"policy": "Basic256Sha256", "mode": "SignAndEncrypt"}}


async def secured(peer: Peer, tmp_path: Path, **certificate: Any) -> None:
    """Start with a certificate that the gateway trusts, and one user."""
    made, key = make_certificate(tmp_path / "server", **certificate)
    trusted = tmp_path / "data/opcua/trusted/certs"
    trusted.mkdir(parents=True)
    (trusted / "plant.der").write_bytes(made.read_bytes())
    peer.options |= {
        "certificate": str(made.with_suffix(".pem")),
        "key": str(key),
        "user": ["andon", "geheim"],
        "policies": ["Basic256Sha256"],
        "modes": ["SignAndEncrypt"],
        **peer.options,
    }
    await peer.start()


async def refusal(one: OpcuaConnector) -> DeviceRefused:
    link = RecordingLink()
    error = await outcome(asyncio.create_task(one.run(link)))
    assert isinstance(error, DeviceRefused), error
    assert link.ups == 0
    return error


async def test_a_wrong_password_is_told_as_such(peer: Peer, tmp_path: Path) -> None:
    await secured(peer, tmp_path)
    error = await refusal(connector(peer, tmp_path, **SECURE, user="andon", password="falsch"))
    assert "user or password" in error.reason
    assert (await peer.stats())["logins"] == [["andon", "falsch"]]


@pytest.mark.parametrize("case", ["expired", "unknown", "downgraded"])
async def test_a_server_that_is_not_as_it_should_be_is_not_shown_the_password(
    peer: Peer, tmp_path: Path, case: str
) -> None:
    if case == "downgraded":
        peer.options |= {"policies": ["None"], "modes": ["None"]}
    await secured(peer, tmp_path, **({"days": (-30, -1)} if case == "expired" else {}))
    if case == "unknown":
        (tmp_path / "data/opcua/trusted/certs/plant.der").unlink()
    error = await refusal(connector(peer, tmp_path, **SECURE, user="andon", password="geheim"))
    words = {"expired": "is valid", "unknown": "not trusted yet", "downgraded": "does not offer"}
    assert words[case] in error.reason
    assert (await peer.stats())["logins"] == []


async def test_a_server_that_does_not_trust_us_names_the_file_to_approve(peer: Peer, tmp_path: Path) -> None:
    peer.options |= {"refuse": ["certificate"], "folder": str(tmp_path / "pki")}
    await secured(peer, tmp_path)
    one = connector(peer, tmp_path, **SECURE, user="andon", password="geheim")
    error = await outcome(asyncio.create_task(one.run(RecordingLink())))
    # It says so in an encrypted message, which no standard knows, and hangs up; others hang up at once.
    assert isinstance(error, ConnectorError)
    assert "when it was shown this gateway's certificate" in error.reason
    assert str(tmp_path / "data/opcua/own/certs/andon.der") in error.hint
    assert (await peer.stats())["logins"] == []
