"""Options, reasons and pauses: values in, values out."""

from __future__ import annotations

import ast
import random
import ssl
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.schema import MqttSettings
from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt import link
from gateway.mqtt.options import link_options, tls_context
from gateway.mqtt.reasons import (
    NEEDS_A_PERSON,
    OVERLOADED,
    PASSES,
    TAKEN_OVER,
    ClosedByBroker,
    Overloaded,
    TakenOver,
    failure,
)
from gateway.mqtt.retry import FORGIVEN_S, KICKS_MAX, Retry
from tests.gateway.publish.support import GATEWAY

# --- options


def test_the_address_gives_host_port_tls_and_login() -> None:
    settings = MqttSettings(broker="mqtts://andon:p%40ss@broker.plant:8884", keep_alive=timedelta(seconds=20))
    options = link_options(settings, GATEWAY)
    assert (options.host, options.port, options.tls) == ("broker.plant", 8884, True)
    assert (options.user, options.password) == ("andon", "p@ss")
    assert (options.client_id, options.protocol, options.keep_alive_s) == ("andon-line-1", "5", 20)
    assert options.address == "mqtts://broker.plant:8884"
    assert link_options(MqttSettings(broker="mqtt://[::1]:1883"), GATEWAY).host == "::1"


def test_settings_win_over_the_address() -> None:
    settings = MqttSettings(broker="mqtt://a:b@h:1", user="c", password="d", client_id="me")
    options = link_options(settings, GATEWAY)
    assert (options.user, options.password, options.client_id) == ("c", "d", "me")


def test_the_embedded_broker_is_spoken_to_in_its_own_version() -> None:
    options = link_options(MqttSettings(broker="embedded", protocol="5"), GATEWAY, embedded_port=4321)
    assert (options.host, options.port, options.protocol, options.tls) == ("127.0.0.1", 4321, "3.1.1", False)


def test_a_certificate_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    for ca_file in (tmp_path / "ca.pem", tmp_path / "missing.pem"):
        options = link_options(MqttSettings(broker="mqtts://h:1", ca_file=str(ca_file)), GATEWAY)
        with pytest.raises(SinkRefused, match=ca_file.name) as refused:
            tls_context(options)
        assert "ca_file" in refused.value.hint
    plain = tls_context(link_options(MqttSettings(broker="mqtts://h:1"), GATEWAY))
    assert plain is not None
    assert plain.verify_mode is ssl.CERT_REQUIRED


# --- reasons and pauses


def test_every_reason_code_of_mqtt_5_has_one_meaning() -> None:
    for code in range(0x80, 0x100):
        told = failure(code, "the connection")
        assert isinstance(told, SinkRefused) == (code in NEEDS_A_PERSON or code == TAKEN_OVER)
        assert told.reason
        assert bool(told.hint) == isinstance(told, SinkRefused)
        assert isinstance(told, Overloaded) == (code in OVERLOADED)
    tables = (NEEDS_A_PERSON, PASSES, OVERLOADED, {TAKEN_OVER: ""})
    assert len({code for table in tables for code in table}) == sum(len(table) for table in tables)
    assert isinstance(failure(TAKEN_OVER, "the connection"), TakenOver)
    assert "full moon" in failure(0x97, "a message", said="full moon").reason


def test_not_authorised_while_connecting_is_about_user_and_password() -> None:
    assert "password" in failure(0x87, "the connection", connecting=True).hint
    assert "access rules" in failure(0x87, "a message").hint


@given(st.lists(st.floats(0.0, 9.0), max_size=40), st.floats(0.0, 1.0, exclude_max=True))
def test_a_broker_that_is_away_is_tried_every_few_seconds(ups: list[float], random01: float) -> None:
    retry = Retry()
    for up_for_s in ups:
        pause = retry.failed(SinkUnavailable("away"), up_for_s=up_for_s, random01=random01)
        assert 0.3 < pause <= 5.0
        assert retry.alarm == ""


def test_a_refusal_waits_and_says_so_until_it_passes() -> None:
    retry = Retry()
    assert retry.failed(SinkRefused("no"), up_for_s=0.0, random01=0.5) == 60.0
    assert retry.alarm == "refused"
    retry.failed(SinkUnavailable("away"), up_for_s=0.0, random01=0.5)
    assert retry.alarm == ""


def test_an_overloaded_broker_is_left_alone_for_longer_each_time() -> None:
    retry, pauses = Retry(), []
    for _ in range(8):
        pauses.append(retry.failed(Overloaded("busy"), up_for_s=0.0, random01=0.5))
        assert retry.alarm == ""
    assert pauses == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert retry.failed(SinkUnavailable("away"), up_for_s=0.0, random01=0.5) <= 4.0
    assert retry.failed(Overloaded("busy"), up_for_s=0.0, random01=0.5) == 2.0


def test_the_code_for_another_version_names_the_other_version() -> None:
    assert 'protocol = "3.1.1"' in failure(0x84, "the connection").hint
    assert 'protocol = "5"' in failure(0x84, "the connection", v5=False).hint


def test_a_taken_client_id_waits_longest() -> None:
    retry = Retry()
    assert retry.failed(TakenOver("taken"), up_for_s=100.0, random01=0.0) == 90.0
    assert retry.alarm == "client_id_taken"
    retry.settled()
    assert retry.alarm == ""


def test_being_closed_again_and_again_looks_like_a_taken_client_id() -> None:
    retry, pauses, alarms = Retry(), [], []
    for _ in range(10):
        pauses.append(retry.failed(ClosedByBroker("closed"), up_for_s=0.1, random01=0.5, listens=True))
        alarms.append(retry.alarm)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 80.0, 80.0, 80.0, 80.0, 120.0, 120.0]
    assert alarms == [""] * (KICKS_MAX - 1) + ["client_id_taken"] * (11 - KICKS_MAX)


@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize("seed", range(10))
def test_two_that_fight_over_a_client_id_change_places_less_than_once_a_minute(said: bool, seed: int) -> None:
    """Played with the real pauses: whoever connects throws the other out, for an hour.

    A broker that says so is believed at once; one that only closes is found out within half a minute.
    """
    rolled, sides = random.Random(seed), (Retry(), Retry())
    due, up_since, alarmed_at = [0.0, 0.3], [-1.0, -1.0], [-1.0, -1.0]
    changes: list[float] = []
    now = 0.0
    while now < 3600.0:
        now = min(due)
        mine = due.index(now)
        other = 1 - mine
        due[mine], up_since[mine] = float("inf"), now
        if up_since[other] >= 0:
            lasted = now - up_since[other]
            if lasted > sides[other].backoff.settled_s:
                sides[other].settled()
            failure = TakenOver("taken") if said else ClosedByBroker("closed")
            pause = sides[other].failed(failure, up_for_s=lasted, random01=rolled.random(), listens=True)
            due[other], up_since[other] = now + pause, -1.0
            changes.append(now)
            if sides[other].alarm and alarmed_at[other] < 0:
                alarmed_at[other] = now
    first = min(at for at in alarmed_at if at >= 0)
    assert first < 30.0
    assert max(alarmed_at) < 300.0, "both say it"
    assert min(alarmed_at) >= 0, "both say it"
    later = [at for at in changes if at > first]
    assert all(after - before >= 60.0 for before, after in pairwise(later[1:]))
    assert len(later) < 60


def test_a_suspicion_is_forgiven() -> None:
    retry = Retry()
    for _ in range(KICKS_MAX):
        retry.failed(ClosedByBroker("closed"), up_for_s=0.1, random01=0.5, listens=True)
    retry.settled()
    assert retry.alarm == ""
    assert retry.failed(ClosedByBroker("closed"), up_for_s=FORGIVEN_S, random01=0.5, listens=True) <= 4.0
    assert retry.alarm == ""


@pytest.mark.parametrize(("up_for_s", "listens"), [(0.1, False), (60.0, True)])
def test_a_broker_that_dies_again_and_again_does_not(up_for_s: float, listens: bool) -> None:
    retry = Retry()
    for _ in range(100):
        pause = retry.failed(ClosedByBroker("closed"), up_for_s=up_for_s, random01=0.5, listens=listens)
        assert pause <= 4.0
        assert retry.alarm == ""


def test_connections_know_nothing_of_what_is_said_on_them() -> None:
    """Two rooms speak on them, and neither may reach into the other by this way."""
    folder = Path(link.__file__).parent
    said = {
        node.module
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module
    }
    assert "gateway.mqtt.frames" in said
    rooms = {".".join(name.split(".")[:2]) for name in said if name.startswith("gateway.")}
    assert rooms == {"gateway.mqtt", "gateway.config", "gateway.errors", "gateway.clock"}
