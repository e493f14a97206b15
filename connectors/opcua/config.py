"""What people may write about an OPC UA connection. Opens nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_core import PydanticCustomError

from connectors.opcua.nodes import BrowsePath, NodeSyntaxError, parse_node
from connectors.opcua.picks import INDEX_MAX, PickSyntaxError, parse_pick
from connectors.settings import ConnectionSettings, Duration, FileName, GroupSettings, Settings, TagSettings

DEFAULT_PORT = 4840
#: The Server object, which tells the events of everything in its server (OPC 10000-3 section 8.55).
SERVER_OBJECT = "i=2253"
_INTERVAL_MIN = timedelta(milliseconds=10)
_INTERVAL_MAX = timedelta(hours=1)


def _problem(kind: str, reason: str) -> PydanticCustomError:
    return PydanticCustomError(kind, "{reason}", {"reason": reason})


def _node(text: str) -> str:
    try:
        parse_node(text)
    except NodeSyntaxError as error:
        raise _problem("node", str(error)) from error
    return text


def _node_id(text: str) -> str:
    if isinstance(parse_node(_node(text)), BrowsePath):
        raise _problem("node", f'"{text}" is a browse path; write the node id of the type, such as "i=2915"')
    return text


def _between(least: timedelta, most: timedelta, words: str) -> AfterValidator:
    def check(value: timedelta) -> timedelta:
        if not least <= value <= most:
            raise _problem("duration_range", f"must be {words}")
        return value

    return AfterValidator(check)


def _field(text: str) -> str:
    try:
        parse_pick(None, text)
    except PickSyntaxError as error:
        raise _problem("field", str(error)) from error
    return text


def _listed(value: Any) -> Any:
    """One index stands for a list of one; in a CSV cell several stand in one text, `1,2`."""
    if isinstance(value, str):
        return value.split(",")
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


def _dimensions(indexes: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if indexes is not None and not 1 <= len(indexes) <= _DIMENSIONS_MAX:
        raise _problem("index", f"has {len(indexes)} indexes; write one for each dimension of the array")
    return indexes


_DIMENSIONS_MAX = 8
_Index = Annotated[int, Field(ge=0, le=INDEX_MAX)]


class OpcuaTag(TagSettings):
    """One variable of the server, or a part of one."""

    range_from_device = True

    node: Annotated[str, AfterValidator(_node)]
    """Where it is: `nsu=URI;s=NAME` (preferred), `ns=2;s=NAME`, `i=2258`, or `/Objects/2:Plant/2:Speed`."""
    index: Annotated[
        tuple[_Index, ...] | None,
        BeforeValidator(_listed, json_schema_input_type=int | list[int] | None),
        AfterValidator(_dimensions),
    ] = None
    """The element of an array it is about, counted from 0; `[1, 2]` where there are two dimensions."""
    field: Annotated[str, AfterValidator(_field)] = ""
    """The field of a structure it is about: `motor.speed`, `motors[2].speed`."""
    sampling: Annotated[Duration, _between(timedelta(0), _INTERVAL_MAX, "from 0s to 1h")] | None = None
    """How often the server looks at the variable; absent: the group's interval, "0s": as fast as it can."""
    queue_size: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Values the server keeps between two publish responses; worked out from the intervals when absent."""
    server_deadband: bool = False
    """Ask the server to apply `deadband` already. Where it cannot, the gateway does it alone."""

    @model_validator(mode="after")
    def _deadband_needed(self) -> Self:
        if self.server_deadband and self.deadband == 0:
            raise _problem("deadband", 'server_deadband needs a "deadband" above 0')
        return self


class OpcuaGroup(GroupSettings):
    """One subscription: its interval is the publishing interval."""

    interval: Annotated[Duration, _between(_INTERVAL_MIN, _INTERVAL_MAX, "from 10ms to 1h")]
    """Publishing interval: changes arrive at most this late. Of a group that is polled, its period."""
    mode: Literal["subscribe", "poll"] = "subscribe"
    """"poll" reads the tags instead of subscribing to them, for servers that cannot do better."""
    tags: tuple[OpcuaTag, ...] = ()


class OpcuaEvents(Settings):
    """One object of the server whose events are recorded."""

    node: Annotated[str, AfterValidator(_node)] = SERVER_OBJECT
    """The object that tells them; the Server object `i=2253` tells those of the whole server."""
    types: tuple[Annotated[str, AfterValidator(_node_id)], ...] = ()
    """Only events of these types and their subtypes, as node ids: `i=2915` is every alarm. Empty: all."""
    severity_min: Annotated[int, Field(ge=1, le=1000)] = 1
    """Only events of at least this severity, from 1 (least) to 1000."""
    queue_size: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Events the server keeps between two publish responses."""


class Security(Settings):
    """How messages are protected. Nothing is negotiated: the server offers exactly this or is refused."""

    policy: Literal[
        "Basic256Sha256",
        "Aes128_Sha256_RsaOaep",
        "Aes256_Sha256_RsaPss",
        "Basic256",
        "Basic128Rsa15",
        "None",
    ] = "Basic256Sha256"
    """Security policy; "None" switches protection off and must be said."""
    mode: Literal["SignAndEncrypt", "Sign", "None"] = "SignAndEncrypt"
    """Whether messages are signed only or also encrypted; "None" goes with policy "None"."""
    allow_deprecated: bool = False
    """Allow the policies Basic256 and Basic128Rsa15, which rest on SHA-1, for devices that know no other."""
    allow_plain_password: bool = False
    """Let a password travel where others on the network could read or redirect it."""

    @model_validator(mode="after")
    def _none_goes_with_none(self) -> Self:
        if self.policy in ("Basic256", "Basic128Rsa15") and not self.allow_deprecated:
            raise _problem(
                "security",
                f"policy {self.policy} is deprecated, because it rests on SHA-1; choose Basic256Sha256 or "
                "better, or say allow_deprecated = true",
            )
        if (self.policy == "None") != (self.mode == "None"):
            raise _problem(
                "security",
                'policy "None" and mode "None" go together; write both, or neither for a protected link',
            )
        return self


class OpcuaConnection(ConnectionSettings):
    """One OPC UA server."""

    protocol: Literal["opcua"]
    endpoint: str
    """Address of the server, `opc.tcp://HOST:PORT/PATH`; the port is 4840 when left out."""
    groups: tuple[OpcuaGroup, ...] = ()
    events: tuple[OpcuaEvents, ...] = ()
    """Objects whose events and alarms are recorded; `[{}]` records those of the whole server."""
    events_interval: Annotated[Duration, _between(_INTERVAL_MIN, _INTERVAL_MAX, "from 10ms to 1h")] = (
        timedelta(milliseconds=500)
    )
    """Publishing interval of the events."""
    security: Security = Security()
    user: str | None = None
    """User name; without one the session is anonymous."""
    password: SecretStr | None = None
    """Password of the user, never shown."""
    user_certificate: FileName | None = None
    """File with the certificate to log in with instead of a name (PEM or DER)."""
    user_key: FileName | None = None
    """File with the key of `user_certificate` (PEM, without a password)."""
    connect_timeout: Annotated[
        Duration, _between(timedelta(milliseconds=100), timedelta(seconds=60), "from 100ms to 60s")
    ] = timedelta(seconds=5)
    """Longest wait for a session, from name resolution to log-in."""
    request_timeout: Annotated[
        Duration, _between(timedelta(milliseconds=100), timedelta(seconds=60), "from 100ms to 60s")
    ] = timedelta(seconds=5)
    """Longest wait for the answer to one request within a session."""
    session_timeout: Annotated[
        Duration, _between(timedelta(seconds=10), timedelta(hours=1), "from 10s to 1h")
    ] = timedelta(seconds=60)
    """How long the server keeps a session it no longer hears from; long ones exhaust small servers."""
    keep_alive: Annotated[
        Duration, _between(timedelta(milliseconds=100), timedelta(seconds=60), "from 100ms to 60s")
    ] = timedelta(seconds=2)
    """How often the server must prove that it lives; silence of three periods is a lost link."""

    resume: bool = True
    """After a lost connection, take up the old session and fetch what the server kept meanwhile."""

    def proof_interval(self, group: GroupSettings) -> timedelta:
        """A subscription without news answers once a keep-alive period."""
        return max(group.interval, self.keep_alive)

    @field_validator("endpoint")
    @classmethod
    def _endpoint(cls, endpoint: str) -> str:
        example = "opc.tcp://10.0.0.5:4840"
        try:
            parts = urlsplit(endpoint)
            port = parts.port
        except ValueError as error:
            raise _problem(
                "endpoint", f'"{endpoint}" is not an address ({error}); write one such as {example}'
            ) from error
        if parts.scheme != "opc.tcp" or not parts.hostname:
            raise _problem("endpoint", f'"{endpoint}" is not an OPC UA address; write one such as {example}')
        if parts.username is not None or parts.password is not None:
            raise _problem(
                "endpoint", 'a user or password does not belong in the address; use "user" and "password"'
            )
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        query = f"?{parts.query}" if parts.query else ""
        return f"opc.tcp://{host}:{port or DEFAULT_PORT}{parts.path}{query}"

    @field_validator("events")
    @classmethod
    def _events(cls, events: tuple[OpcuaEvents, ...]) -> tuple[OpcuaEvents, ...]:
        nodes = [one.node for one in events]
        if twice := sorted({node for node in nodes if nodes.count(node) > 1}):
            raise _problem("events", f'"{twice[0]}" is named twice; its events would come twice')
        return events

    @model_validator(mode="after")
    def _credentials(self) -> Self:
        if self.password is not None and self.user is None:
            raise _problem("user", 'a "password" needs a "user"')
        if (self.user_certificate is None) != (self.user_key is None):
            raise _problem("user_certificate", '"user_certificate" and "user_key" go together')
        if self.user_certificate is not None and self.user is not None:
            raise _problem("user_certificate", 'log in with a "user" or with a "user_certificate", not both')
        if self.user_certificate is not None and self.security.policy == "None":
            raise _problem("user_certificate", "a user certificate needs a security policy to be checked by")
        if (
            self.password is not None
            and self.security.policy == "None"
            and not self.security.allow_plain_password
        ):
            raise _problem(
                "security",
                "a password would travel over a link without security; choose a security policy, "
                "or say security.allow_plain_password = true",
            )
        return self

    @property
    def host(self) -> str:
        """Name or address of the server."""
        return urlsplit(self.endpoint).hostname or ""

    @property
    def port(self) -> int:
        """TCP port of the server."""
        return urlsplit(self.endpoint).port or DEFAULT_PORT
