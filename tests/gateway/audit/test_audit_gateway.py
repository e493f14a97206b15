"""The audit trail of a whole gateway: over REST, anchored, judged, exported, and failing closed."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from typer.testing import CliRunner

from gateway.audit import trail as trails
from gateway.audit.store import AuditStore
from gateway.cli import app
from statemodel.types import AuditAnchor, Correction
from tests.gateway.assembly.living_site import Machine, Running, Site, running
from tests.gateway.audit.trails import AT, PATIENCE_S, entry
from tests.support.database import new_database, timescale_dsn
from tests.support.small_plc import SmallPlc, small_plcs

NEW_USER = {"name": "eve", "password": "a long and silly sentence 47", "roles": ["operator"]}
EXTRA = """
[gateway.audit]
anchor_every = "1s"
segment_bytes = 100_000
[[compliance]]
name = "known"
kind = "unknown_at_most"
area = "area"
[[compliance]]
name = "moves"
kind = "illegal_moves"
[[compliance]]
name = "keys"
kind = "stale_keys"
[[compliance]]
name = "passwords"
kind = "password_age"
[[compliance]]
name = "commands"
kind = "command_verified"
[[compliance]]
name = "reasons"
kind = "reason_within"
categories = ["standby"]
[[compliance]]
name = "anchored"
kind = "audit_anchored"
"""


@pytest.fixture
async def plc() -> AsyncIterator[SmallPlc]:
    async with small_plcs(1) as [found]:
        yield found


def site_of(plc: SmallPlc) -> Site:
    return Site(
        links={"left": (plc.port, 2, 20)},
        machines={"press": Machine("left/r0")},
        listen="127.0.0.1:0",
        extra=EXTRA,
    )


def address(gateway: Running) -> str:
    return gateway.gateway.addresses.api


@asynccontextmanager
async def client_of(gateway: Running) -> AsyncIterator[httpx.AsyncClient]:
    """The REST face, as whoever can read the gateway's files."""
    key = (gateway.directory / "data" / "access" / "local.key").read_text().strip()
    async with httpx.AsyncClient(
        base_url=f"{address(gateway)}/api/v1",
        trust_env=False,
        timeout=PATIENCE_S,
        headers={"authorization": f"Bearer {key}"},
    ) as client:
        yield client


def andon(*words: object) -> tuple[int, list[Any]]:
    told = CliRunner().invoke(app, [str(word) for word in (*words, "--json")])
    lines = [json.loads(line) for line in told.stdout.splitlines() if line.startswith(("{", "["))]
    return getattr(told.exception, "exit_code", told.exit_code), lines


async def test_who_reads_the_trail_is_in_it_and_its_heads_are_in_the_sequence(
    tmp_path: Path, plc: SmallPlc
) -> None:
    async with running(tmp_path, site_of(plc)) as gateway, client_of(gateway) as client:
        await gateway.until_up()
        page = (await client.get("/audit")).json()
        assert page["recorded"] is True
        assert page["items"][0]["action"] == "audit.begin"
        last = page["items"][-1]
        assert (last["action"], last["actor"], last["kind"], last["via"]) == (
            "audit.read",
            "local",
            "local",
            "rest",
        )
        assert (await client.get("/audit", params={"action": "audit.begin"})).json()["items"][0]["n"] == 1

        anonymous = httpx.AsyncClient(
            base_url=f"{address(gateway)}/api/v1", trust_env=False, timeout=PATIENCE_S
        )
        async with anonymous:
            for path in ("/audit", "/audit/head", "/audit/verify", "/audit/export"):
                assert (await anonymous.get(path)).status_code in (401, 403), path

        async with asyncio.timeout(PATIENCE_S):
            while True:
                verdict = (await client.get("/audit/verify")).json()
                if verdict["anchored_n"] > 1:
                    break
                await asyncio.sleep(0.1)
        assert verdict["sound"] is True
        assert verdict["faults"] == []
        anchors = [one.event for one in await gateway.events() if isinstance(one.event, AuditAnchor)]
        assert verdict["anchors"] <= len(anchors) + 1
        assert [one.n for one in anchors] == sorted({one.n for one in anchors})

        metrics = (await client.get(f"{address(gateway)}/metrics")).text
        assert "andon_audit_writable 1.0" in metrics
        assert "andon_audit_sound 1.0" in metrics
        assert "andon_audit_refused_total 0.0" in metrics
    code, [told] = andon("audit", "verify", tmp_path / "andon.toml")
    assert (code, told["sound"]) == (0, True)
    assert told["anchors"] >= len(anchors)
    file = next((tmp_path / "data" / "audit").glob("records-*"))
    file.write_bytes(file.read_bytes().replace(b'"actor":"local"', b'"actor":"loca1"', 1))
    code, [told] = andon("audit", "verify", tmp_path / "andon.toml")
    assert (code, told["faults"][0]["kind"]) == (3, "changed")


async def test_records_are_exported_byte_for_byte_and_removed_only_with_their_checksum(
    tmp_path: Path, plc: SmallPlc
) -> None:
    async with running(tmp_path, site_of(plc)) as gateway, client_of(gateway) as client:
        for n in range(150):
            await client.get("/audit", params={"limit": 1, "actor": "s" * 600 + str(n)})
        told = await client.get("/audit/export", params={"through": 140})
        assert told.headers["content-type"].startswith("application/x-ndjson")
        lines = told.content
        assert [json.loads(line)["n"] for line in lines.splitlines()] == list(range(1, 141))
        files = sorted((tmp_path / "data" / "audit").glob("records-*"))
        assert b"".join(file.read_bytes() for file in files).startswith(lines)
        assert len(files) > 1

        wrong = await client.post("/audit/removals", json={"through": 140, "sha256": "00" * 32})
        assert (wrong.status_code, wrong.json()["code"]) == (409, "export_differs")
        right = {"through": 140, "sha256": hashlib.sha256(lines).hexdigest()}
        removed = (await client.post("/audit/removals", json=right)).json()["removed_through"]
        assert 1 < removed <= 140
        page = (await client.get("/audit", params={"limit": 1})).json()
        assert page["items"][0]["n"] == removed + 1
        actions = [r["action"] for r in (await client.get("/audit", params={"after": 150})).json()["items"]]
        assert "export" in actions
        assert "audit.removed" in actions
        assert (await client.get("/audit/verify")).json()["sound"] is True

        host = address(gateway).partition("://")[2]
        code, [exported] = await asyncio.to_thread(
            _export_as_local, gateway.directory, host, tmp_path / "more.jsonl"
        )
        assert code == 0
        assert exported["records"] > 0
        assert exported["sha256"] == hashlib.sha256((tmp_path / "more.jsonl").read_bytes()).hexdigest()


def _export_as_local(directory: Path, host: str, to: Path) -> tuple[int, list[Any]]:
    key = (directory / "data" / "access" / "local.key").read_text().strip()
    told = CliRunner().invoke(
        app,
        ["audit", "export", "--url", host, "--to", str(to), "--json"],
        env={"ANDON_TOKEN": key},
    )
    return told.exit_code, [json.loads(line) for line in told.stdout.splitlines()]


async def test_a_trail_that_cannot_be_written_stops_changes_and_not_reading(
    tmp_path: Path, plc: SmallPlc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trails, "RETRY_S", 0.05)
    async with running(tmp_path, site_of(plc)) as gateway, client_of(gateway) as client:
        await gateway.until_up()
        real, broken = os.fdatasync, True

        def refusing(fd: int) -> None:
            if broken and "/audit/" in str(Path(f"/proc/self/fd/{fd}").readlink()):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            real(fd)

        monkeypatch.setattr(os, "fdatasync", refusing)
        assert (await client.get("/audit/export")).json()["code"] == "audit_unavailable"
        health = (await client.get(f"{address(gateway)}/readyz")).json()
        assert "commands and changes are refused" in health["parts"]["audit"]["reason"]
        assert health["ready"] is True
        page = (await client.get("/audit")).json()
        assert (page["recorded"], page["items"][0]["n"]) == (False, 1)
        assert (await client.get("/equipment/press/state")).status_code == 200
        refused = await client.post("/users", json=NEW_USER)
        assert refused.status_code == 503, refused.text
        assert (await client.get("/users/eve")).status_code == 404, "what is not recorded is not done"
        mend = await client.post("/reconciliations", json={"repair": True})
        assert (mend.status_code, mend.json()["code"]) == (503, "audit_unavailable")
        state = (await client.get("/equipment/press/state")).json()
        reason = {"seq": state["seq"], "reason": "x"}
        assert (await client.post("/equipment/press/reasons", json=reason)).status_code == 503
        broken = False
        async with asyncio.timeout(PATIENCE_S):
            while "audit" in (await client.get(f"{address(gateway)}/readyz")).json()["parts"]:
                await asyncio.sleep(0.02)
        assert (await client.post("/users", json=NEW_USER)).status_code == 201
        page = (await client.get("/audit", params={"action": "audit"})).json()
        assert [r["action"] for r in page["items"]][-2:] == ["audit.resumed", "audit.read"]
        assert page["items"][-2]["detail"]["reason"] == "Read-only file system"
        assert page["items"][-2]["detail"]["refused"] >= 2


async def test_reasons_and_rules_over_rest(tmp_path: Path, plc: SmallPlc) -> None:
    async with running(tmp_path, site_of(plc)) as gateway, client_of(gateway) as client:
        await gateway.until_up()
        plc.registers[0] = 2
        await gateway.until_state("press", "Busy")
        rules = (await client.get("/compliance")).json()["items"]
        assert [(one["name"], one["state"]) for one in rules] == [
            (name, "kept")
            for name in ("known", "moves", "keys", "passwords", "commands", "reasons", "anchored")
        ]
        assert (await client.get("/compliance/violations")).json() == {
            "items": [],
            "next": None,
            "incomplete": [],
        }
        seq = (await client.get("/equipment/press/state")).json()["seq"]
        told = await client.post("/equipment/press/reasons", json={"seq": seq, "reason": "no caps"})
        assert told.status_code == 201, told.text
        assert (told.json()["author"], told.json()["reason"]) == ("local", "no caps")
        since = (await client.get("/equipment/press/state")).json()["since"]
        wrong_author = {"from": since, "state": "Idle", "reason": "seen", "author": "somebody else"}
        assert (await client.post("/equipment/press/corrections", json=wrong_author)).status_code == 201
        traces = (await client.get("/audit", params={"action": "correction"})).json()["items"]
        assert [(one["action"], one["actor"], one["target"], one["result"]) for one in traces] == [
            ("correction.reason", "local", "press", "begun"),
            ("correction.reason", "local", "press", "ok"),
            ("correction", "local", "press", "begun"),
            ("correction", "local", "press", "ok"),
        ]
        assert traces[3]["detail"]["author"] == "somebody else"
        assert traces[3]["detail"]["begun"] == traces[2]["n"]
        events = [one.event for one in await gateway.events() if isinstance(one.event, Correction)]
        assert [one.state for event in events for one in event.intervals] == ["Busy", "Idle"]
        assert gateway.state("press") == "Busy"
        wrong = await client.post("/equipment/press/reasons", json={"seq": 10**9, "reason": "no caps"})
        assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_body")
        for bad in ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, {"after": "nobody"}):
            assert (await client.get("/compliance/violations", params=bad)).status_code == 400
        assert "andon_compliance_violations" in (await client.get(f"{address(gateway)}/metrics")).text

        host = address(gateway).partition("://")[2]
        key = (tmp_path / "data" / "access" / "local.key").read_text().strip()
        shown = await asyncio.to_thread(
            CliRunner().invoke,
            app,
            ["compliance", "--url", host, "--json"],
            env={"ANDON_TOKEN": key},
        )
        assert (shown.exit_code, len(shown.stdout.splitlines())) == (0, 7)


@pytest.mark.real
async def test_the_database_vouches_for_a_trail_that_was_signed_anew(tmp_path: Path, plc: SmallPlc) -> None:
    """Somebody with all of the gateway's files, and not the database."""
    async with new_database(timescale_dsn()) as dsn:
        site = site_of(plc)
        site.historian = dsn
        async with running(tmp_path, site) as gateway, client_of(gateway) as client:
            await gateway.until_up()
            for _ in range(3):
                await client.get("/audit")
            async with asyncio.timeout(PATIENCE_S):
                while await anchored_in(dsn) < 4:
                    await asyncio.sleep(0.1)
            verdict = (await client.get("/audit/verify")).json()
            assert (verdict["sound"], verdict["remarks"]) == (True, [])
        config = tmp_path / "andon.toml"
        code, lines = await asyncio.to_thread(andon, "audit", "verify", config, "--database")
        assert (code, lines[0]["sound"]) == (0, True)
        assert lines[0]["anchored_n"] >= 4

        key = (tmp_path / "data" / "audit" / "key").read_bytes()
        shutil.rmtree(tmp_path / "data" / "audit")
        shutil.rmtree(tmp_path / "data" / "journal")
        (tmp_path / "data" / "audit").mkdir(mode=0o700)
        (tmp_path / "data" / "audit" / "key").write_bytes(key)
        (tmp_path / "data" / "audit" / "key").chmod(0o600)
        store = AuditStore(tmp_path / "data" / "audit", "living")
        store.open(AT)
        store.append([entry(n) for n in range(20)], AT)
        store.close()
        assert (await asyncio.to_thread(andon, "audit", "verify", config))[0] == 0
        code, lines = await asyncio.to_thread(andon, "audit", "verify", config, "--database")
        assert (code, {fault["kind"] for fault in lines[0]["faults"]}) == (3, {"rewritten"})


async def anchored_in(dsn: str) -> int:
    """The newest record the database has an anchor of."""
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval("SELECT coalesce(max(n), 0) FROM andon.audit_anchor") or 0)
    except asyncpg.UndefinedTableError:
        return 0
    finally:
        await connection.close()
