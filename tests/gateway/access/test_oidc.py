"""Tokens of an issuer: one that is right is believed, and everything else that looks like one is not."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from api.access import Denied, Permission, Role
from gateway.access import bearers, jwks
from gateway.access.jwks import AGAIN_S, IssuerKeys, Unreadable, read_keys
from gateway.access.oidc import Refused, judge_times
from gateway.config.access import AccessSettings, OidcSettings
from tests.gateway.access.house import PATIENCE_S, PEER, House, opened
from tests.gateway.access.issuer import (
    Issuer,
    claims,
    ec_key,
    forged,
    issuing,
    public,
    rsa_key,
    signed,
)
from tests.support.loop_time import later
from tests.support.manual_clock import START, ManualClock
from tests.support.server_certificate import make_certificate

NOW = int(START.timestamp())


@pytest.fixture(autouse=True)
def _issuers_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """An issuer on a machine that stands still for a moment is none that gives no answer."""
    monkeypatch.setattr(jwks, "FETCH_S", PATIENCE_S)


@asynccontextmanager
async def trusting(tmp_path: Path, **more: Any) -> AsyncIterator[tuple[House, Issuer]]:
    """An access that believes an issuer on loopback."""
    async with issuing() as issuer:
        settings = {
            "issuer": issuer.url,
            "audience": "andon",
            "jwks": f"{issuer.url}/certs",
            "roles": {"ops": "operator", "boss": "admin"},
            **more,
        }
        async with opened(tmp_path, oidc=settings) as house:
            yield house, issuer


async def believed(house: House, token: str) -> bool:
    """Whether a token lets in; who is not let in is told the same in any case."""
    try:
        principal = await house.desk.who(token, PEER)
    except Denied as denied:
        told = (denied.code, denied.reason)
    else:
        return house.desk.still(principal)
    assert told == ("invalid_credentials", "the credentials are not right")
    return False


async def test_a_token_of_the_issuer_lets_in(tmp_path: Path) -> None:
    async with trusting(tmp_path) as (house, issuer):
        issuer.keys.append(public("two", ec_key("two")))
        for token in (
            signed(claims(issuer.url), rsa_key("one")),
            signed(claims(issuer.url), ec_key("two"), "ES256", "two"),
            signed(claims(issuer.url, aud=["other", "andon"]), rsa_key("one"), typ="at+jwt"),
        ):
            principal = await house.desk.who(token, PEER)
            assert (principal.name, principal.kind, principal.roles) == (
                "ada",
                "token",
                frozenset((Role.OPERATOR,)),
            )
            assert principal.may(Permission.COMMAND)
            assert not principal.may(Permission.USERS)
        assert issuer.asked == ["/certs"], "keys are read once"


async def test_a_token_is_recorded_once_and_judged_once(tmp_path: Path) -> None:
    async with trusting(tmp_path) as (house, issuer):
        token = signed(claims(issuer.url), rsa_key("one"))
        for _ in range(5):
            await house.desk.who(token, PEER)
        assert house.audit.told() == [("login", "ada", "ada", "ok")]
        assert token not in repr(house.audit.entries)


BAD: dict[str, Callable[[str], str]] = {
    "another audience": lambda iss: signed(claims(iss, aud="grafana"), rsa_key("one")),
    "no audience": lambda iss: signed(claims(iss, aud=None), rsa_key("one")),
    "another issuer": lambda iss: signed(claims("http://127.0.0.1:1"), rsa_key("one")),
    "an issuer that begins alike": lambda iss: signed(claims(f"{iss}.evil.example"), rsa_key("one")),
    "no issuer": lambda iss: signed(claims(iss, iss=None), rsa_key("one")),
    "expired": lambda iss: signed(claims(iss, iat=NOW - 900, exp=NOW - 31), rsa_key("one")),
    "no end": lambda iss: signed(claims(iss, exp=None), rsa_key("one")),
    "no beginning": lambda iss: signed(claims(iss, iat=None), rsa_key("one")),
    "not yet": lambda iss: signed(claims(iss, nbf=NOW + 31), rsa_key("one")),
    "issued ahead": lambda iss: signed(claims(iss, iat=NOW + 31), rsa_key("one")),
    "good for years": lambda iss: signed(claims(iss, exp=NOW + 86_401), rsa_key("one")),
    "an end that is no time": lambda iss: signed(claims(iss, exp=True), rsa_key("one")),
    "an end without end": lambda iss: signed(claims(iss, exp=float("inf")), rsa_key("one")),
    "no role of ours": lambda iss: signed(claims(iss, roles=["admin", "OPS", "op"]), rsa_key("one")),
    "no roles": lambda iss: signed(claims(iss, roles=None), rsa_key("one")),
    "a role that is a word of another": lambda iss: signed(claims(iss, roles="former ops"), rsa_key("one")),
    "roles of another kind": lambda iss: signed(claims(iss, roles={"ops": True}), rsa_key("one")),
    "no name": lambda iss: signed(claims(iss, sub=None), rsa_key("one")),
    "a blank name": lambda iss: signed(claims(iss, sub="  "), rsa_key("one")),
    "the key of somebody else": lambda iss: signed(claims(iss), rsa_key("evil")),
    "a key that is not known": lambda iss: signed(claims(iss), rsa_key("one"), kid="zwei"),
    "a key that leads elsewhere": lambda iss: signed(claims(iss), rsa_key("evil"), kid="../../evil"),
    "a key that is no text": lambda iss: forged({"alg": "RS256", "kid": {"a": 1}}, claims(iss), b"x"),
    "no signature": lambda iss: forged({"alg": "none", "kid": "one"}, claims(iss)),
    "no signature, in capitals": lambda iss: forged({"alg": "NONE", "kid": "one"}, claims(iss)),
    "a signature cut off": lambda iss: signed(claims(iss), rsa_key("one")).rpartition(".")[0] + ".",
    "the public key as a secret": lambda iss: by_secret(iss),
    "another kind of signature": lambda iss: signed(claims(iss), rsa_key("one"), "RS512"),
    "a kind the key is not of": lambda iss: signed(claims(iss), ec_key("two"), "ES256", "one"),
    "a key of its own": lambda iss: signed(claims(iss), rsa_key("evil"), jwk=public("one", rsa_key("evil"))),
    "an address of its own": lambda iss: signed(claims(iss), rsa_key("evil"), jku="http://127.0.0.1:1/keys"),
    "extensions": lambda iss: signed(claims(iss), rsa_key("one"), crit=["exp"]),
    "another type": lambda iss: signed(claims(iss), rsa_key("one"), typ="logout+jwt"),
    "claims that are a list": lambda iss: forged({"alg": "RS256", "kid": "one"}, ["ops"], b"x"),  # type: ignore[arg-type]
    "no JSON": lambda iss: "eyJ.e30.e30",
    "very deep": lambda iss: "ey" + "J" * 4000 + ".e30.e30",
    "very long": lambda iss: signed(claims(iss, more="x" * 9000), rsa_key("one")),
}


def by_secret(issuer: str) -> str:
    """A token signed by HMAC with the public key as its secret, which everybody has."""
    pem = rsa_key("one").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = forged({"alg": "HS256", "kid": "one", "typ": "JWT"}, claims(issuer)).rpartition(".")[0]
    mac = hmac.HMAC(pem, hashes.SHA256())
    mac.update(head.encode())
    return head + "." + forged({}, {}, mac.finalize()).rpartition(".")[2]


@pytest.mark.parametrize("what", BAD)
async def test_anything_else_does_not(tmp_path: Path, what: str) -> None:
    async with trusting(tmp_path) as (house, issuer):
        assert not await believed(house, BAD[what](issuer.url))
        assert set(issuer.asked) <= {"/certs"}, "nothing in a token says where keys are"
        assert await believed(house, signed(claims(issuer.url), rsa_key("one")))
        assert house.audit.told() == [("login", "ada", "ada", "ok")]


async def test_changing_any_part_spoils_a_token(tmp_path: Path) -> None:
    async with trusting(tmp_path) as (house, issuer):
        parts = signed(claims(issuer.url), rsa_key("one")).split(".")
        other = signed(claims(issuer.url, roles=["boss"]), rsa_key("evil")).split(".")
        for index in range(3):
            mixed = [*parts]
            mixed[index] = other[index]
            assert await believed(house, ".".join(mixed)) == (mixed == parts)


async def test_clocks_may_differ_by_the_leeway(tmp_path: Path) -> None:
    async with trusting(tmp_path) as (house, issuer):
        token = signed(claims(issuer.url, iat=NOW + 30, nbf=NOW + 30, exp=NOW + 100), rsa_key("one"))
        principal = await house.desk.who(token, PEER)
        house.clock.advance(129)
        assert await believed(house, token)
        house.clock.advance(1)
        assert not house.desk.still(principal)
        assert not await believed(house, token)


async def test_roles_and_areas_come_from_the_claims_that_are_named(tmp_path: Path) -> None:
    maps = {"roles_claim": "realm_access.roles", "name_claim": "preferred_username", "areas_claim": "groups"}
    areas = {"areas": {"fill": "filling", "bake": "baking/line-2", "all": "*"}}
    async with trusting(tmp_path, **maps, **areas) as (house, issuer):

        async def areas_of(groups: Any) -> Any:
            more = {
                "realm_access": {"roles": ["boss", "x"]},
                "preferred_username": "a\x07da",
                "groups": groups,
            }
            token = signed(claims(issuer.url, roles=["ops"], **more), rsa_key("one"))
            principal = await house.desk.who(token, PEER)
            assert (principal.roles, principal.name) == (frozenset((Role.ADMIN,)), "a?da")
            return principal.areas

        assert await areas_of(["fill", "bake", "else"]) == ("baking/line-2", "filling")
        assert await areas_of("bake") == ("baking/line-2",)
        assert await areas_of(["fill", "all"]) is None
        for none in (["else"], [], None, "*", ["filling"], "fill bake", "no longer all"):
            with pytest.raises(Denied):
                await areas_of(none)


async def test_areas_without_a_map_are_paths_and_never_everything(tmp_path: Path) -> None:
    async with trusting(tmp_path, areas_claim="areas") as (house, issuer):
        token = signed(claims(issuer.url, areas=["*", "/filling/", ""]), rsa_key("one"))
        assert (await house.desk.who(token, PEER)).areas == ("filling",)
        for areas in (["*"], ["", "/"], 7):
            assert not await believed(house, signed(claims(issuer.url, areas=areas), rsa_key("one")))


@pytest.mark.parametrize("claim", ["scope", "scp", "access.scope"])
async def test_in_a_scope_spaces_stand_between_roles(tmp_path: Path, claim: str) -> None:
    async with trusting(tmp_path, roles_claim=claim) as (house, issuer):
        outer, _, inner = claim.rpartition(".")
        said: Any = {inner: "openid ops"}
        token = signed(claims(issuer.url, **({outer: said} if outer else said)), rsa_key("one"))
        assert (await house.desk.who(token, PEER)).roles == frozenset((Role.OPERATOR,))


async def test_without_its_issuer_a_token_is_nobodys_at_once(tmp_path: Path) -> None:
    async with trusting(tmp_path) as (house, issuer):
        running = asyncio.create_task(house.desk.run())
        async with asyncio.timeout(PATIENCE_S):
            while not issuer.asked:
                await asyncio.sleep(0.001)
        token = signed(claims(issuer.url), rsa_key("one"))
        principal = await house.desk.who(token, PEER)
        assert issuer.asked == ["/certs"], "keys are there before the first token comes"

        house.desk.use(AccessSettings(), anonymous=False)
        assert not house.desk.still(principal)
        assert not await believed(house, token)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_only_so_many_tokens_are_remembered_and_those_forgotten_are_judged_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bearers, "REMEMBERED_MAX", 3)
    async with trusting(tmp_path) as (house, issuer):
        sent = [signed(claims(issuer.url, jti=f"{number}"), rsa_key("one")) for number in range(6)]
        came = [await house.desk.who(token, PEER) for token in sent]
        assert [house.desk.still(principal) for principal in came] == [False] * 3 + [True] * 3
        assert house.desk._issuer is not None
        assert len(house.desk._issuer._believed) == 3
        # Whoever still listens, uses the token, though no request comes with it.
        assert house.desk.still(came[3])
        assert await believed(house, signed(claims(issuer.url, jti="new"), rsa_key("one")))
        assert [house.desk.still(principal) for principal in came[3:]] == [True, False, True]
        assert await believed(house, sent[0])
        house.clock.advance(10_000)
        assert not any(house.desk.still(principal) for principal in came), "they have expired"
        assert not await believed(house, sent[5])


async def test_the_keys_of_another_issuer_are_read_from_when_it_is_configured(tmp_path: Path) -> None:
    async with trusting(tmp_path) as (house, before), issuing() as after:
        running = asyncio.create_task(house.desk.run())
        oidc = {
            "issuer": after.url,
            "audience": "andon",
            "jwks": f"{after.url}/certs",
            "roles": {"ops": "viewer"},
        }
        async with asyncio.timeout(PATIENCE_S):
            while 3600.0 not in house.clock.pauses:  # they are read, and will be again
                await asyncio.sleep(0.001)
            house.desk.use(AccessSettings.model_validate({"oidc": oidc}), anonymous=False)
            while not after.asked:  # before any token comes, and again when they are due
                await asyncio.sleep(0.001)
            while house.clock.pauses.count(3600.0) < 2:  # the one it was cancelled in, and the new one
                await asyncio.sleep(0.001)
            house.clock.advance(3600)
            while len(after.asked) < 2:
                await asyncio.sleep(0.001)
        assert len(before.asked) == 1, "nobody believes it any more"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_reading_the_keys_goes_on_after_a_failure_nobody_foresaw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with trusting(tmp_path) as (house, issuer):
        real, broken, tries = IssuerKeys.read, True, 0

        async def read(keys: IssuerKeys) -> None:
            nonlocal tries
            tries += 1
            if broken:
                raise ZeroDivisionError("nobody foresaw it")
            await real(keys)

        monkeypatch.setattr(IssuerKeys, "read", read)
        running = asyncio.create_task(house.desk.run())
        async with asyncio.timeout(PATIENCE_S):
            while AGAIN_S not in house.clock.pauses:
                await asyncio.sleep(0.001)
            assert not running.done()
            (trouble,) = house.desk.troubles()
            assert "ZeroDivisionError" in trouble
            assert "nobody foresaw it" in capsys.readouterr().out
            house.clock.advance(AGAIN_S)
            while tries < 2 or AGAIN_S not in house.clock.pauses:
                await asyncio.sleep(0.001)
            broken = False
            house.clock.advance(AGAIN_S)
            while not issuer.asked or list(house.desk.troubles()):
                await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


# Keys ---------------------------------------------------------------------------------------------------


async def test_a_new_key_is_found_and_an_old_one_ends_its_tokens(tmp_path: Path) -> None:
    async with trusting(tmp_path) as (house, issuer):
        old = signed(claims(issuer.url), rsa_key("one"))
        principal = await house.desk.who(old, PEER)
        issuer.keys = [public("two", ec_key("two"))]
        new = signed(claims(issuer.url), ec_key("two"), "ES256", "two")
        assert not await believed(house, new), "it was asked a moment ago"
        house.clock.advance(AGAIN_S)
        assert await believed(house, new)
        assert not house.desk.still(principal)
        assert not await believed(house, old)


async def test_tokens_that_name_keys_nobody_has_do_not_make_it_ask_again_and_again(tmp_path: Path) -> None:
    async with trusting(tmp_path) as (house, issuer):
        for number in range(50):
            assert not await believed(house, signed(claims(issuer.url), rsa_key("evil"), kid=f"{number}"))
        assert len(issuer.asked) == 1
        house.clock.advance(AGAIN_S)
        flood = [signed(claims(issuer.url), rsa_key("evil"), kid=f"at-once-{number}") for number in range(20)]
        assert not any(await asyncio.gather(*[believed(house, token) for token in flood]))
        assert len(issuer.asked) == 2


async def test_known_keys_count_on_while_the_issuer_is_away(tmp_path: Path) -> None:
    async with trusting(tmp_path, lifetime_max="30d", keep="1d", refresh="1h") as (house, issuer):
        token = signed(claims(issuer.url, exp=NOW + 20 * 86_400), rsa_key("one"))
        assert await believed(house, token)
        issuer.status = b"503 Away"
        keys = house.desk._issuer.keys if house.desk._issuer else None
        assert keys is not None
        for _ in range(24):
            house.clock.advance(3600)
            await keys.read()
            assert await believed(house, token)
        assert "503" in next(house.desk.troubles())
        house.clock.advance(3601)
        assert not await believed(house, token)
        issuer.status = b"200 OK"
        house.clock.advance(AGAIN_S)
        assert await believed(house, token)
        assert list(house.desk.troubles()) == []


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (
            {"status": b"302 Found", "headers": [b"Location: http://169.254.169.254/latest/meta-data"]},
            "status 302",
        ),
        ({"status": b"307 Moved", "headers": [b"Location: http://127.0.0.1:1/"]}, "status 307"),
        ({"more": b" " * 65_536, "more_count": 160}, "more than 262,144 bytes"),
        ({"headers": [b"Content-Encoding: gzip"], "body": b"\x1f\x8b"}, "packed"),
        ({"body": b"<html>"}, "no JSON"),
        ({"body": b"[" * 100_000}, "no JSON"),
        ({"body": b"[]"}, 'no list "keys"'),
        ({"body": b'{"keys": []}'}, "no RSA key"),
        ({"status": b"nonsense"}, "no answer"),
    ],
    ids=["metadata", "elsewhere", "10 MB", "packed", "html", "deep", "list", "empty", "no http"],
)
async def test_answers_that_are_no_keys_are_left_alone(
    tmp_path: Path, how: dict[str, Any], reason: str
) -> None:
    async with trusting(tmp_path) as (house, issuer):
        for name, value in how.items():
            setattr(issuer, name, value)
        assert not await believed(house, signed(claims(issuer.url), rsa_key("one")))
        assert reason in next(house.desk.troubles())
        assert issuer.asked == ["/certs"]


async def test_an_answer_that_does_not_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    async with trusting(tmp_path) as (house, issuer):
        issuer.more, issuer.more_count = b" " * 65_536, 1600
        assert not await believed(house, signed(claims(issuer.url), rsa_key("one")))
        assert issuer.sent_count < 400, "a quarter of it fits into no buffer on the way"


async def test_an_answer_that_drips_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "FETCH_S", 100.0)
    async with trusting(tmp_path) as (house, issuer):
        issuer.more, issuer.more_count, issuer.drips = b" ", 10_000, True
        asked = asyncio.create_task(believed(house, signed(claims(issuer.url), rsa_key("one"))))
        while not asked.done():  # something comes all the time
            later(10.0)
            await asyncio.wait({asked}, timeout=0.05)
        assert not await asked
        assert "no whole answer" in next(house.desk.troubles())


async def test_keys_of_a_file_are_read_from_there(tmp_path: Path) -> None:
    clock = ManualClock()
    path = tmp_path / "keys.json"
    settings = OidcSettings.model_validate(
        {"issuer": "https://id.example", "audience": "a", "jwks": str(path), "roles": {"a": "viewer"}}
    )
    keys = IssuerKeys(settings, clock)
    assert await keys.find("one", "RS256") is None
    assert "cannot be read" in (keys.trouble or "")
    path.write_bytes(b'{"keys": [' + jwk(public("one", rsa_key("one"))) + b"]}")
    clock.advance(AGAIN_S)
    assert await keys.find("one", "RS256") is not None
    assert await keys.find("", "RS256") is not None
    assert await keys.find("one", "ES256") is None


def jwk(key: Any) -> bytes:
    """A key as bytes."""
    return json.dumps(key).encode()


def test_only_public_keys_for_our_signatures_count() -> None:
    good = public("one", rsa_key("one"))
    passed_over = [
        {"kty": "oct", "kid": "shared", "k": "c2VjcmV0"},
        {**good, "kid": "private", "d": "AQAB"},
        {**good, "kid": "for encryption", "use": "enc"},
        {**good, "kid": "for signing", "key_ops": ["sign"]},
        {**good, "kid": "another kind", "alg": "RS512"},
        {**good, "kid": 7},
        {"kty": "RSA", "kid": "broken", "n": "!!", "e": "AQAB"},
        public("short", rsa_key("short", 1024)),
        public("another curve", ec_key("p384", ec.SECP384R1)),
        {"kty": "EC", "kid": "off the curve", "crv": "P-256", "x": "AQ", "y": "AQ"},
        "no key",
    ]
    data = b'{"keys": [' + b",".join(map(jwk, [*passed_over, good])) + b"]}"
    assert [key.kid for key in read_keys(data)] == ["one"]
    with pytest.raises(Unreadable):
        read_keys(b'{"keys": [' + b",".join(map(jwk, passed_over)) + b"]}")


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    with pytest.raises(Unreadable):
        read_keys(data)


TIMES = OidcSettings.model_validate(
    {"issuer": "https://id.example", "audience": "a", "jwks": "keys.json", "roles": {"a": "viewer"}}
)


@given(
    st.integers(-200_000, 200_000), st.integers(-200_000, 200_000), st.none() | st.integers(-200_000, 200_000)
)
def test_a_token_is_good_between_its_times_and_for_no_longer_than_allowed(
    issued: int, ends: int, begins: int | None
) -> None:
    told: dict[str, Any] = {"iat": issued, "exp": ends} | ({} if begins is None else {"nbf": begins})
    good = ends > -30 and max(issued, issued if begins is None else begins) <= 30 and ends - issued <= 86_400
    if good:
        assert judge_times(told, TIMES, 0.0) == ends + 30
    else:
        with pytest.raises(Refused):
            judge_times(told, TIMES, 0.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"jwks": "http://id.acme.example/certs"}, "must be https"),
        ({"jwks": "https://evil.example/certs"}, "not on the issuer's host"),
        ({"jwks": "https://id.acme.example.evil.example/certs"}, "not on the issuer's host"),
        ({"jwks": "https://id.acme.example:8443/certs"}, "not on the issuer's host"),
        ({"jwks": "https://me@id.acme.example/certs"}, "plain URL"),
        ({"jwks": "file:///etc/passwd"}, "must be https"),
        ({"algorithms": ["HS256"]}, "RS256"),
        ({"algorithms": ["none"]}, "RS256"),
        ({"roles": {}}, "at least 1"),
        ({"roles": {"a": "root"}}, "viewer"),
        ({"leeway": "10m"}, "5m"),
        ({"areas": {"a": "../x"}}, "match"),
    ],
)
def test_settings_that_open_a_hole_are_refused(change: dict[str, Any], words: str) -> None:
    good = {
        "issuer": "https://id.acme.example/realms/x",
        "audience": "andon",
        "jwks": "https://id.acme.example/certs",
        "roles": {"a": "viewer"},
    }
    OidcSettings.model_validate(good)
    with pytest.raises(ValidationError, match=words):
        OidcSettings.model_validate({**good, **change})


async def test_an_issuer_is_known_by_the_authorities_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, private = make_certificate(tmp_path)
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(tmp_path / "server.pem", private)
    sets = b'{"keys": [' + jwk(public("one", rsa_key("one"))) + b"]}"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(sets) + sets)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=own)
    issuer = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    settings = OidcSettings.model_validate(
        {"issuer": issuer, "audience": "andon", "jwks": f"{issuer}/keys", "roles": {"all": "viewer"}}
    )
    async with server:
        strangers = IssuerKeys(settings, ManualClock())
        await strangers.read()
        assert "CERTIFICATE_VERIFY_FAILED" in (strangers.trouble or "")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
        keys = IssuerKeys(settings, ManualClock())
        await keys.read()
        assert keys.trouble is None
