"""`andon plan`: what it says without a gateway, and beside one that runs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from connectors.registry import default_registry
from gateway.commands.plan import NoLatency, show_plan
from gateway.config.load import load
from tests.support.processes import free_port

CONFIG = """
[gateway]
id = "g"
enterprise = "acme"
site = "berlin"
[api]
listen = "127.0.0.1:{api}"

[[connections]]
name = "oven-plc"
protocol = "modbus"
endpoint = "tcp://127.0.0.1:502"
[[connections.groups]]
name = "fast"
interval = "100ms"
tags = [
  {{ name = "a", address = "holding:0", type = "uint16" }},
  {{ name = "b", address = "holding:3", type = "uint16" }},
  {{ name = "far", address = "holding:500", type = "float32" }},
  {{ name = "run", address = "coil:7" }},
]

[[connections]]
name = "second"
protocol = "modbus"
endpoint = "tcp://127.0.0.1:502"
unit = 2
[[connections.groups]]
name = "all"
interval = "20ms"
tags = [{{ name = "state", address = "holding:0", type = "uint16" }}]

[[connections]]
name = "filler-plc"
protocol = "opcua"
endpoint = "opc.tcp://127.0.0.1:4840"
security = {{ policy = "None", mode = "None" }}
[[connections.groups]]
name = "all"
interval = "1s"
tags = [
  {{ name = "state", node = "ns=2;s=State" }},
  {{ name = "speed", node = "ns=2;s=Speed", sampling = "50ms" }},
]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "andon.toml"
    path.write_text(CONFIG.format(api=free_port()), encoding="utf-8")
    return path


def connection(name: str, tags: int, **cycles: dict[str, float]) -> dict[str, Any]:
    """As much of a connection as `GET /connections` gives that is looked at."""
    return {"name": name, "tags": tags, "cycles": cycles}


def cycles(mean_s: float, worst_s: float) -> dict[str, float]:
    return {"count": 600, "duration_mean_s": mean_s, "duration_max_s": worst_s, "lateness_max_s": 0.0}


@contextmanager
def gateway_that_says(items: list[dict[str, Any]]) -> Iterator[str]:
    """The address of something that answers `GET /connections` with these."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"items": items, "next": None}).encode()
            self.send_response(200 if self.path.startswith("/api/v1/connections") else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def said(
    capsys: pytest.CaptureFixture[str], path: Path, latency: str | None = None, url: str | None = None
) -> str:
    show_plan(path, latency=latency, url=url, requests=False, json=False)
    return capsys.readouterr().out


def told(
    capsys: pytest.CaptureFixture[str], path: Path, latency: str | None = None, url: str | None = None
) -> dict[str, Any]:
    show_plan(path, latency=latency, url=url, requests=False, json=True)
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_people_see_requests_registers_cycles_and_how_busy_the_link_is(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, config)
    lines = [line.split() for line in text.splitlines()]
    assert ["fast", "100ms", "4", "3", "1", "6", "2", "15ms", "15", "%"] in lines
    assert "fast: holding:0-3 (4 registers, 2 of them needless) for 2 tags, 5ms" in text
    assert "127.0.0.1:502, shared by oven-plc, second: busy 40 %" in text
    assert "sampled every 50ms to every 1s, queues of 10 to 22 (2 items)" in text
    assert "not compared with a running gateway: no gateway answers" in text
    assert "warning" not in text


def test_a_slower_device_makes_the_link_too_busy_and_that_is_a_warning_not_a_failure(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, config, latency="12ms")
    assert "warning: 127.0.0.1:502 is busy 96 % of the time, most of it by second/all" in text


def test_programs_get_one_document_with_all_of_it(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = told(capsys, config, latency="10ms")
    assert document["latency_s"] == 0.01
    modbus, second, opcua = document["connections"]
    (group,) = modbus["groups"]
    assert [request["text"] for request in group["requests"]] == ["coil:7", "holding:0-3", "holding:500-501"]
    assert group["cycle_s"] == pytest.approx(0.03)
    assert (group["use"], group["needless"]) == (pytest.approx(0.3), 2)
    assert second["link"] == modbus["link"] != opcua["link"] == ""
    assert opcua["groups"][0]["cycle_s"] is None
    assert document["links"] == [
        {"name": "127.0.0.1:502", "connections": ["oven-plc", "second"], "use": pytest.approx(0.8)}
    ]
    assert len(document["warnings"]) == 1
    assert "no gateway answers" in document["running"]["unreachable"]


def test_what_runs_stands_beside_what_was_predicted(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    running = [
        connection("oven-plc", 4, fast=cycles(0.0601, 0.095), gone=cycles(1, 1)),
        connection("second", 3, all={"count": 0}),
        connection("older", 1),
    ]
    with gateway_that_says(running) as url:
        text = said(capsys, config, url=url)
        document = told(capsys, config, url=url)["running"]
    assert "60.1ms" in text
    assert "95ms" in text
    assert [(item["group"], item["mean_s"]) for item in document["measured"]] == [("fast", 0.0601)]
    assert document["remarks"] == [
        "oven-plc takes 60.1ms for what was predicted to take 15ms: it answers in about 20ms, "
        "so plan with --latency 20ms",
        "second has 3 tags in the gateway that runs, and 1 here",
        "filler-plc is not in the gateway that runs",
        "older runs and is not in this configuration",
    ]
    assert all(remark in text for remark in document["remarks"])


def test_a_good_prediction_is_not_corrected(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    running = [
        connection("oven-plc", 4, fast=cycles(0.017, 0.03)),
        connection("second", 1),
        connection("filler-plc", 2),
    ]
    with gateway_that_says(running) as url:
        assert told(capsys, config, url=url)["running"]["remarks"] == []


def test_a_latency_that_is_none_is_refused(config: Path) -> None:
    with pytest.raises(NoLatency, match='"fast" is not a duration') as caught:
        show_plan(config, latency="fast", url=None, requests=False, json=False)
    assert caught.value.exit_code == 2


def test_every_built_in_protocol_has_a_plan(config: Path) -> None:
    loaded = load(config)
    protocols = default_registry().protocols
    for settings in loaded.configuration.connections:
        planner = protocols[settings.protocol].plan
        assert planner is not None, settings.protocol
        planned = planner(settings, 0.005)
        assert (planned.name, planned.tags) == (settings.name, len(settings.tags()))
