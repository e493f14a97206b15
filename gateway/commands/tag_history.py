"""`andon history CONNECTION/TAG`: the recorded samples of a tag, or figures of them bucket by bucket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.table import Table
from rich.text import Text

from gateway.client import Client
from gateway.commands.remote import url_from
from gateway.commands.show import err, out, print_json
from gateway.commands.when import WrongArgument, read_when, write_when

#: Colour of a quality on a terminal.
_STYLE = {"good": "", "uncertain": "yellow", "bad": "bold red"}
_FIGURES = ("count", "min", "max", "avg", "last", "known_s")


def show_tag_history(
    tag: str,
    *,
    config: Path | None,
    url: str | None,
    from_: str | None,
    to: str | None,
    bucket: str | None,
    tz: str | None,
    json: bool,
) -> None:
    """Print what was recorded of a tag, oldest first; with `bucket` one line for each."""
    if tz is not None and bucket is None:
        raise WrongArgument("--tz says whose days and hours are meant", hint="add --bucket, such as day")
    now = datetime.now(UTC)
    wanted = {"from": read_when(from_, "--from", now), "to": read_when(to, "--to", now)}
    parameters: dict[str, str] = {name: write_when(at) for name, at in wanted.items() if at is not None}
    parameters |= {name: text for name, text in (("bucket", bucket), ("tz", tz)) if text is not None}
    connection, _, name = tag.partition("/")
    path = f"/tags/{quote(connection, safe='')}/{quote(name, safe='')}/history"
    with Client(url_from(config, url)) as client:
        if bucket is not None:
            _show_buckets(client.get(path, **parameters), json=json)
            return
        for page in _pages(client, path, parameters):
            before = [page["before"]] if page["before"] is not None else []
            for sample in page["items"] if json else (*before, *page["items"]):
                if json:
                    print_json({"tag": page["tag"], **sample})
                else:
                    out.print(_sample_line(sample, page["unit"], earlier=sample is page["before"]))
            _say_incomplete(page)


def _pages(client: Client, path: str, parameters: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    after: dict[str, str] = {}
    while True:
        page = client.get(path, **parameters, **after)
        # Where the range ends is said once: what happens meanwhile is not chased after.
        parameters = {**parameters, "from": page["from"], "to": page["to"]}
        yield page
        if page["next"] is None:
            return
        after = {"after": page["next"]}


def _sample_line(sample: Mapping[str, Any], unit: str, *, earlier: bool) -> Text:
    at = datetime.fromisoformat(sample["at"]).astimezone(UTC)
    line = Text(f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03}  ", style="dim" if earlier else "")
    value = "-" if sample["value"] is None else f"{sample['value']} {unit}".rstrip()
    line.append(value)
    if sample["quality"] != "good":
        said = f"  {sample['quality']} {sample['substatus']}".rstrip()
        line.append(said, style=_STYLE.get(sample["quality"], ""))
    if earlier:
        line.append("  (in force before)")
    return line


def _show_buckets(page: Mapping[str, Any], *, json: bool) -> None:
    if json:
        for bucket in page["items"]:
            print_json({"tag": page["tag"], **bucket})
        _say_incomplete(page)
        return
    title = f"{page['tag']}, {page['unit']}" if page["unit"] else page["tag"]
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="dim")
    table.add_column("from (UTC)", no_wrap=True)
    for name in _FIGURES:
        table.add_column(name, justify="right", no_wrap=True)
    for bucket in page["items"]:
        begin = datetime.fromisoformat(bucket["from"]).astimezone(UTC)
        table.add_row(f"{begin:%Y-%m-%d %H:%M:%S}", *(_figure(bucket[name]) for name in _FIGURES))
    out.print(table)
    _say_incomplete(page)


def _figure(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


def _say_incomplete(page: Mapping[str, Any]) -> None:
    if page["incomplete"] is not None:
        err.print(f"incomplete: {page['incomplete']}", style="yellow", markup=False)
