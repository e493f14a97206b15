"""Whether the address of a database can work at all, judged before anybody connects.

Pure, and no more than the driver would find at the first attempt: a gateway whose address cannot work would
say so for ever, and `check` would have called it fine. No word of the address stands in what is said: where
something is misplaced, any part of it may be the password.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qsl, unquote, urlsplit

#: What may stand after the question mark: what the driver takes as its own, then the settings of the server
#: that a client may bring; any other of these goes into `options`.
_KEYS = """
host port dbname database user password passfile service sslmode sslcert sslkey sslrootcert sslcrl sslpassword
sslnegotiation ssl_min_protocol_version ssl_max_protocol_version target_session_attrs krbsrvname gsslib
options application_name client_encoding search_path role timezone datestyle intervalstyle work_mem jit
maintenance_work_mem temp_buffers statement_timeout lock_timeout transaction_timeout idle_session_timeout
idle_in_transaction_session_timeout synchronous_commit default_transaction_isolation default_tablespace
temp_tablespaces tcp_keepalives_idle tcp_keepalives_interval tcp_keepalives_count tcp_user_timeout
client_connection_check_interval client_min_messages
"""
_KNOWN = frozenset(_KEYS.split())
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+(?:%[^\]]+)?\]|[^\[\]:\s]*)(?::(?P<port>[^:]*))?")
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODE = "in a user or a password write @ as %40, / as %2F, ? as %3F, # as %23, : as %3A, [ as %5B"


def judge_dsn(dsn: str) -> None:
    """Judge `postgresql://user:password@host:port/database?key=value`.

    Raises:
        ValueError: it cannot work; what is wrong, with none of its words.
    """
    reason = next(_wrong(dsn), None)
    if reason is not None:
        raise ValueError(f"is no address of a database that can work: {reason}")


def _wrong(dsn: str) -> Iterator[str]:
    try:
        parts = urlsplit(dsn)
    except ValueError:
        yield f"its brackets do not fit; {_ENCODE}"
        return
    if "#" in dsn:
        yield f"nothing may follow a #; {_ENCODE}"
    if parts.netloc.count("@") > 1:
        yield f"it has more than one @ before its host; {_ENCODE}"
    _, _, hosts = parts.netloc.rpartition("@")
    if hosts:
        yield from _wrong_hosts(unquote(hosts) if _PERCENT.search(hosts) is None else hosts)
    if _PERCENT.search(hosts + parts.path):
        yield "a % in the host or the database has no two digits after it; a % itself is %25"
    if "\0" in unquote(parts.netloc + parts.path):
        yield "it has a character of no text, %00"
    yield from _wrong_query(parts.query)


def _wrong_hosts(hosts: str) -> Iterator[str]:
    for host in hosts.split(","):
        if host.startswith("/"):
            continue  # the folder of a unix socket
        found = _HOST.fullmatch(host)
        if not host or found is None:
            yield f"its host is no name or address, and one of IPv6 stands in brackets; {_ENCODE}"
        elif found["port"]:
            yield from _wrong_port(found["port"])


def _wrong_port(port: str) -> Iterator[str]:
    if not (port.isascii() and port.isdigit() and 0 < int(port[:9]) <= 65535):
        yield f"its port is no number from 1 to 65535; {_ENCODE}"


def _wrong_query(query: str) -> Iterator[str]:
    if not query:
        return
    try:
        given = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        yield "what follows the ? is not key=value, with & between"
        return
    for key, value in given:
        if key.lower() not in _KNOWN and "." not in key:
            yield (
                "a key after the ? is none that is known; a setting of the server goes into "
                "options=-c%20name%3Dvalue, and how long to wait for it is command_timeout"
            )
        elif key == "port" and value:
            for port in value.split(","):
                yield from _wrong_port(port)
        elif key == "sslmode" and value not in ("", *_SSL_MODES):
            yield f"sslmode is none of {', '.join(_SSL_MODES)}"
