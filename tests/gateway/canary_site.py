"""A gateway whose every secret is a canary: a word that is nowhere else and must be found nowhere."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

from tests.support.server_certificate import make_certificate

#: Environment variable -> what it holds. Each is some text no program would come upon.
SECRETS = {
    "CANARY_DATABASE": "kestrel-Otter/4471",
    "CANARY_BROKER": "marten-Heron+8812",
    "CANARY_HOST": "pipit-Weasel&3390",
    "CANARY_PLC": "siskin-Badger=7745",
    "CANARY_SNAPSHOTS": "dunnock-Polecat-20977",
}
#: A password that stands within an address.
IN_ADDRESS = "lapwing-Ferret-66021"
#: What the process is started with.
ENVIRONMENT = {**SECRETS, "CANARY_DSN": f"postgresql://andon:{IN_ADDRESS}@127.0.0.1:1/andon"}
#: Passwords of people: one that is right, one that is wrong, and one typed where the name belongs.
RIGHT, WRONG, AS_NAME = "whinchat-Stoat-and-60113", "wheatear-Hare-and-51298", "goshawk-and-vole-90333"

CONFIG = """
[gateway]
id = "canary"
enterprise = "e"
site = "s"
data_dir = "data"
watch = true
[gateway.snapshots]
encryption_key = "env:CANARY_SNAPSHOTS"
[historian]
dsn = "env:CANARY_DSN"
password = "env:CANARY_DATABASE"
[api]
listen = "127.0.0.1:PORT"
[[mqtt]]
broker = "mqtts://127.0.0.1:1"
user = "andon"
password = "env:CANARY_BROKER"
cert_file = "server.pem"
key_file = "key.pem"
[[sparkplug]]
broker = "mqtt://127.0.0.1:1"
group = "plant"
user = "andon"
password = "env:CANARY_HOST"
[commands]
enabled = true
[[commands.allow]]
tag = "plc/tag-0"
equipment = "filler-1"
roles = ["operator"]
via = ["rest"]
min = 0
max = 10
[[connections]]
name = "plc"
protocol = "opcua"
endpoint = "opc.tcp://127.0.0.1:1"
security = { policy = "None", mode = "None", allow_plain_password = true }
user = "andon"
password = "env:CANARY_PLC"
[[connections.groups]]
name = "fast"
interval = "250ms"
tags = [{ name = "tag-0", node = "nsu=urn:plant;s=Filler.StateCurrent" }]
[[equipment]]
name = "filler-1"
path = "area/line/filler-1"
model = "packml"
state = "plc/tag-0"
"""


def write(directory: Path, port: int) -> Path:
    """The configuration and the files it names."""
    make_certificate(directory)
    path = directory / "andon.toml"
    path.write_text(CONFIG.replace("PORT", str(port)), encoding="utf-8")
    return path


def pem_of_key(directory: Path) -> str:
    """A line out of the middle of the private key."""
    return (directory / "key.pem").read_text(encoding="ascii").splitlines()[5]


def disguises(secret: str) -> set[bytes]:
    """The ways in which a text may slip out: as it is, in a URL, in JSON, in base64 and hexadecimal."""
    raw = secret.encode()
    found = {raw, quote(secret, safe="").encode(), raw.hex().encode(), secret.upper().encode()}
    for shift in range(3):  # base64 of it wherever it begins within a longer text
        packed = base64.b64encode(b"\0" * shift + raw).rstrip(b"=")
        found.add(packed[(4, 4, 4)[shift] if shift else 0 : -1])
    return {one for one in found if len(one) > 8}
