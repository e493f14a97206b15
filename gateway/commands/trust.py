"""`andon trust`: which OPC UA servers are trusted, and deciding on those that wait."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from rich.text import Text

from connectors.errors import ConnectorError
from connectors.opcua.pki import Pki, expiry_warning
from connectors.opcua.trust import Entry, NoSuchCertificate, approve, entries, find, reject
from gateway.clock import SystemClock
from gateway.commands.show import out, print_json, table_of
from gateway.config.load import load
from gateway.errors import GatewayError

_T = TypeVar("_T")

_STYLE = {"rejected": "bold yellow", "trusted": "green", "issuer": "dim"}
_WORDS = {"rejected": "waits", "trusted": "trusted", "issuer": "completes chains"}


class CertificateUnknown(GatewayError):
    """An argument names no certificate, or more than one."""

    exit_code = 2


class TrustFailed(GatewayError):
    """The certificate folders cannot be read or written."""


def list_trust(config: Path, *, json: bool) -> None:
    """Print every certificate in the folders."""
    pki, now = _pki(config)
    found = _done(lambda: entries(pki, now))
    if json:
        for entry in found:
            print_json(_plain(entry))
        return
    if not found:
        out.print(f"no certificates yet in {pki.root}")
        return
    table = table_of("state", "name", "thumbprint (SHA-1)", "valid until", "remark", wrapped=("remark",))
    for entry in found:
        table.add_row(
            Text(_WORDS[entry.place], style=_STYLE[entry.place]),
            Text(entry.name),
            entry.thumbprint,
            f"{entry.valid_until:%Y-%m-%d}",
            Text(_remark(entry, now)),
        )
    out.print(table)
    if any(entry.place == "rejected" for entry in found):
        out.print("compare a thumbprint with the server's own, then: andon trust approve CONFIG THUMBPRINT")


def show_trust(config: Path, which: str, *, json: bool) -> None:
    """Print all there is to know of one certificate."""
    pki, now = _pki(config)
    entry = _find(pki, which, now)
    if json:
        print_json(_plain(entry))
        return
    rows = {
        "state": _WORDS[entry.place],
        "subject": entry.subject,
        "issuer": entry.issuer,
        "application": entry.application_uri or "-",
        "thumbprint (SHA-1)": entry.thumbprint,
        "thumbprint (SHA-256)": entry.sha256,
        "valid": f"{entry.valid_from:%Y-%m-%d %H:%M} to {entry.valid_until:%Y-%m-%d %H:%M} UTC",
        "file": str(entry.file),
        "remark": _remark(entry, now) or "-",
    }
    _print_rows(rows)


def approve_trust(config: Path, which: str, *, json: bool) -> None:
    """Trust a server that waits."""
    pki, now = _pki(config)
    entry = _find(pki, which, now)
    if entry.place != "rejected":
        raise CertificateUnknown(f'"{entry.name}" is {_WORDS[entry.place]} already')
    file = _done(lambda: approve(pki, entry))
    if json:
        print_json({"approved": entry.thumbprint, "file": str(file)})
        return
    out.print(f"[bold green]trusted[/]: {entry.thumbprint}")
    out.print(f"{entry.name}; its file is now {file}", markup=False)
    if entry.reason.startswith(("expired", "valid only")):
        out.print(f"it will still be refused: {entry.reason}", style="yellow")
    else:
        out.print("a running gateway connects at its next try, within a minute", style="dim")


def reject_trust(config: Path, which: str, *, json: bool) -> None:
    """Remove a certificate that waits, or trust one no longer."""
    pki, now = _pki(config)
    entry = _find(pki, which, now)
    file = _done(lambda: reject(pki, entry))
    if json:
        print_json({"rejected": entry.thumbprint, "file": None if file is None else str(file)})
    elif file is None:
        out.print(f"removed: {entry.thumbprint} ({entry.name}); it is put there again if it comes back")
    else:
        out.print(f"no longer trusted: {entry.thumbprint} ({entry.name}); sessions that stand are not cut")


def show_own(config: Path, *, json: bool) -> None:
    """Print where the gateway's own certificate is, to be approved on servers; made if there is none yet."""
    pki, now = _pki(config)
    try:
        identity = pki.identity(now)
    except ConnectorError as error:
        raise TrustFailed(error.reason, hint=error.hint) from error
    rows = {
        "file": str(identity.path),
        "application": identity.application_uri,
        "thumbprint (SHA-1)": identity.thumbprint,
        "valid until": f"{identity.not_after:%Y-%m-%d %H:%M} UTC",
    }
    if json:
        print_json(
            {
                "file": str(identity.path),
                "application_uri": identity.application_uri,
                "thumbprint": identity.thumbprint,
                "valid_until": identity.not_after,
            }
        )
        return
    if warning := expiry_warning("it", identity.not_after, now):
        rows["remark"] = warning
    _print_rows(rows)


def _pki(config: Path) -> tuple[Pki, datetime]:
    """The certificates of a configuration, or in a data folder: who browses has no configuration yet."""
    if config.is_dir():
        if not (config / "opcua").is_dir():
            hint = "name a configuration file, or the folder browse was given with --data-dir (./data)"
            raise CertificateUnknown(f"there are no certificates in the folder {config}", hint=hint)
        return Pki(config.resolve()), SystemClock().now()
    return Pki(load(config).data_dir), SystemClock().now()


def _find(pki: Pki, which: str, now: datetime) -> Entry:
    try:
        return _done(lambda: find(pki, which, now))
    except NoSuchCertificate as error:
        raise CertificateUnknown(str(error), hint="see: andon trust list CONFIG") from error


def _done(work: Callable[[], _T]) -> _T:
    try:
        return work()
    except OSError as error:
        raise TrustFailed(
            f"the certificate folders cannot be used: {error}", hint="run it as the user of the gateway"
        ) from error


def _remark(entry: Entry, now: datetime) -> str:
    ends = "" if entry.reason.startswith("expired") else expiry_warning("it", entry.valid_until, now)
    return "; ".join(words for words in (entry.reason, ends) if words)


def _plain(entry: Entry) -> dict[str, Any]:
    return {
        "state": entry.place,
        "name": entry.name,
        "subject": entry.subject,
        "issuer": entry.issuer,
        "application_uri": entry.application_uri,
        "thumbprint": entry.thumbprint,
        "sha256": entry.sha256,
        "valid_from": entry.valid_from,
        "valid_until": entry.valid_until,
        "reason": entry.reason,
        "file": str(entry.file),
    }


def _print_rows(rows: dict[str, str]) -> None:
    width = max(map(len, rows))
    for name, value in rows.items():
        out.print(f"[dim]{name:<{width}}[/]  ", end="")
        out.print(value, markup=False, soft_wrap=True)
