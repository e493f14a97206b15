"""Settings of the link: endpoints, serial ports, certificates, and what does not go together."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from connectors.modbus.config import ModbusSettings, Place, SerialSettings, TlsSettings


def settings(endpoint: str, **more: Any) -> ModbusSettings:
    return ModbusSettings.model_validate({"name": "plc", "endpoint": endpoint, **more})


@pytest.mark.parametrize(
    ("endpoint", "place"),
    [
        ("tcp://10.0.0.6", Place("tcp", "10.0.0.6", 502)),
        ("tls://plc-7.line", Place("tcp", "plc-7.line", 802, tls=TlsSettings())),
        ("tls://PLC-7.line:8802", Place("tcp", "plc-7.line", 8802, tls=TlsSettings())),
        ("rtu+tcp://10.0.0.6:4001", Place("rtu", "10.0.0.6", 4001)),
        ("ascii+tcp://[fe80::1]:4001", Place("ascii", "fe80::1", 4001)),
        ("serial:///dev/ttyUSB0", Place("rtu", path="/dev/ttyUSB0", serial=SerialSettings())),
    ],
)
def test_where_an_endpoint_leads(endpoint: str, place: Place) -> None:
    assert settings(endpoint).place() == place


def test_a_serial_port_may_speak_ascii() -> None:
    serial = {"baud": 9600, "parity": "none", "stop_bits": 2, "data_bits": 7, "framing": "ascii"}
    assert settings("serial:///dev/ttyS1", serial=serial).place().framing == "ascii"


def test_the_same_link_has_the_same_key() -> None:
    assert settings("tcp://10.0.0.6").place().key == settings("tcp://10.0.0.6:502", unit=2).place().key
    assert settings("tcp://10.0.0.6").place().key != settings("tcp://10.0.0.6:503").place().key


@pytest.mark.parametrize(
    ("endpoint", "more", "reason"),
    [
        ("rtu+tcp://10.0.0.6", {}, 'names no port; write "rtu+tcp://10.0.0.6:4001"'),
        ("serial://dev/ttyUSB0", {}, 'write "serial:///dev/ttyUSB0", with three slashes'),
        ("serial:///", {}, "names no port"),
        ("udp://10.0.0.6:502", {}, '"udp" is not spoken here'),
        ("tcp://10.0.0.6", {"serial": {"baud": 9600}}, "is no serial port"),
        ("tcp://10.0.0.6", {"tls": {"ca": "ca.pem"}}, "is not encrypted"),
        ("tls://10.0.0.6", {"tls": {"key": "a.key"}}, "a key and no certificate"),
        ("rtu+tcp://10.0.0.6:4001", {"pipeline": 2}, "only one request can be open"),
        ("serial:///dev/ttyUSB0", {"pipeline": 2}, "carry no transaction id"),
        ("serial:///dev/ttyUSB0", {"unit": 0}, "unit 0 is all units at once"),
        ("rtu+tcp://10.0.0.6:4001", {"unit": 0}, "none answers"),
        ("serial:///dev/ttyUSB0", {"serial": {"data_bits": 7}}, "RTU needs 8 data bits"),
        ("serial:///dev/ttyUSB0", {"serial": {"parity": "mark"}}, "parity"),
        ("serial:///dev/ttyUSB0", {"serial": {"speed": 9600}}, "speed"),
        ("tcp://10.0.0.6", {"pipeline": 17}, "pipeline"),
        ("tcp://10.0.0.6", {"pipeline": 0}, "pipeline"),
    ],
)
def test_what_does_not_go_together_is_refused(endpoint: str, more: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(endpoint, **more)
    assert reason in str(caught.value)


def test_unit_0_of_a_device_with_a_port_of_its_own() -> None:
    assert settings("tcp://10.0.0.6", unit=0).unit == 0
