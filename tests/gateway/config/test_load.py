"""A configuration that is read: what its words are taken for."""

from __future__ import annotations

from pathlib import Path

from gateway.config.load import load


def test_files_a_connection_or_the_broker_names_count_from_the_configuration(tmp_path: Path) -> None:
    folder = tmp_path / "plant"
    folder.mkdir()
    (folder / "andon.toml").write_text(
        """
        [gateway]
        id = "line-1"
        enterprise = "acme"
        site = "berlin"

        [mqtt]
        broker = "mqtts://broker:8883"
        ca_file = "ca.pem"

        [[connections]]
        name = "drive"
        protocol = "modbus"
        endpoint = "tls://10.0.0.6"
        tls = { ca = "certs/ca.pem", certificate = "/etc/andon/own.pem" }
        groups = [{ name = "all", interval = "1s", tags = [{ name = "on", address = "coil:1" }] }]
        """
    )
    configuration = load(folder / "andon.toml").configuration
    assert configuration.mqtt[0].ca_file == str(folder / "ca.pem")
    tls = configuration.connections[0].model_dump()["tls"]
    assert (tls["ca"], tls["certificate"]) == (str(folder / "certs" / "ca.pem"), "/etc/andon/own.pem")
