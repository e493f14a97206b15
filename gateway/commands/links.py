"""How the links to the devices look on a terminal: all at a glance with what is wrong, or one in full.

Takes what `GET /connections` gives, and the time; prints and asks nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gateway.commands.show import age_text, parse_time, table_of

View = Mapping[str, Any]

_STYLE = {"up": "bold green", "connecting": "bold yellow"}
_TROUBLE = "bold red"
#: Bad tags shown of one connection in the table of all, and in the view of one.
_FEW, _MANY = 3, 50
_NONE = "-"


def all_links(views: Sequence[View], now: datetime) -> Group:
    """A line for each, and under it what is wrong with it."""
    right = ("cycle", "worst", "late", "skipped", "last seen")
    table = table_of("connection", "link", "for", "tags", "bad", *right, right=right)
    for view in views:
        table.add_row(*_row(view, now))
    troubles = [
        Padding(lines, (1, 0, 0, 0), expand=False) for view in views if (lines := _trouble(view, now))
    ]
    return Group(table, *troubles)


def one_link(view: View, now: datetime) -> Group:
    """Everything known of one connection."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, fact in _facts(view, now):
        facts.add_row(name, fact)
    head = Text.assemble((view["name"], "bold"), f"  {view['protocol']}  {view['endpoint']}")
    return Group(head, Padding(facts, (0, 0, 0, 2), expand=False), *_groups(view), *_tags(view))


def _row(view: View, now: datetime) -> Iterator[str | Text]:
    bad = len(view["bad_tags"])
    cycles = [group for group in view["cycles"].values() if group.get("count")]
    yield Text(view["name"])
    yield _link(view)
    yield _age(view["since"], now)
    yield str(view["tags"])
    yield Text(str(bad), style=_TROUBLE) if bad else _NONE
    if not cycles:
        yield from (_NONE, _NONE, _NONE)
    else:
        count = sum(group["count"] for group in cycles)
        yield _ms(sum(group["duration_mean_s"] * group["count"] for group in cycles) / count)
        yield _ms(max(group["duration_max_s"] for group in cycles))
        yield _ms(max(group["lateness_max_s"] for group in cycles))
    skipped = int(sum(group.get("skipped", 0) for group in cycles))
    yield Text(f"{skipped:,}", style="yellow") if skipped else _NONE
    yield _ago(view["last_seen_at"], now)


def _trouble(view: View, now: datetime) -> Group | None:
    """What a person should look at; None when there is nothing."""
    lines: list[Text] = []
    if view["link"] != "up":
        if view["last_error"]:
            lines.append(Text(view["last_error"]))
            if hint := view.get("last_error_hint"):
                lines.append(_hint(hint))
        lines += [Text(text, style="dim") for text in _tries(view, now)]
    bad = view["bad_tags"]
    lines += [Text.assemble((tag, "yellow"), f"  {reason}") for tag, reason in list(bad.items())[:_FEW]]
    if len(bad) > _FEW:
        lines.append(
            Text(f"and {len(bad) - _FEW:,} more bad tags: andon state {view['name']} --connections", "dim")
        )
    lines += [Text.assemble(("warning: ", "yellow"), text) for text in view.get("warnings", {}).values()]
    if not lines:
        return None
    name = Text.assemble((view["name"], "bold"), ("  " + view["endpoint"], "dim"))
    return Group(name, *(Padding(line, (0, 0, 0, 4), expand=False) for line in lines))


def _facts(view: View, now: datetime) -> Iterator[tuple[str, Text]]:
    seen = f", last seen {_ago(view['last_seen_at'], now)}" if view["last_seen_at"] else ", never seen"
    yield "link", Text.assemble(_link(view), f" for {_age(view['since'], now)}{seen}")
    if view["last_error"]:
        at = view["last_error_at"]
        when = f"  ({_clock(at)} UTC, {_ago(at, now)})" if at else ""
        yield "last error", Text.assemble(view["last_error"], (when, "dim"))
        if hint := view.get("last_error_hint"):
            yield "", _hint(hint)
    for text in _tries(view, now):
        yield "next try", Text(text)
    bad = len(view["bad_tags"])
    tags = Text(f"{view['tags']:,}")
    yield "tags", tags if not bad else Text.assemble(tags, ", ", (f"{bad:,} bad", _TROUBLE))
    yield "gaps", Text(f"{view['gaps']:,} losses recorded" if view.get("gaps") else "none")
    if view.get("skipped_cycles"):
        yield "skipped", Text(f"{view['skipped_cycles']:,} cycles left out")
    if view.get("unexpected_failures"):
        words = f"{view['unexpected_failures']:,} failures nobody foresaw; the log has their traces"
        yield "failures", Text(words, style=_TROUBLE)
    if figures := view.get("figures"):
        words = " · ".join(f"{name.replace('_', ' ')} {value:,.0f}" for name, value in figures.items())
        yield "counts", Text(words)
    for text in view.get("warnings", {}).values():
        yield "warning", Text(text, style="yellow")


def _groups(view: View) -> Iterator[Padding]:
    right = ("every", "readings", "mean", "worst", "late", "worst late", "skipped")
    table = table_of("group", *right, right=right)
    for name, group in view["cycles"].items():
        every = _every(group["interval_s"]) if "interval_s" in group else _NONE
        if not group.get("count"):
            table.add_row(Text(name), every, "0", *(_NONE for _ in range(5)))
            continue
        times = ("duration_mean_s", "duration_max_s", "lateness_mean_s", "lateness_max_s")
        table.add_row(
            Text(name),
            every,
            f"{group['count']:,.0f}",
            *(_ms(group[key]) if key in group else _NONE for key in times),
            f"{group.get('skipped', 0):,.0f}",
        )
    if view["cycles"]:
        yield Padding(table, (1, 0, 0, 2), expand=False)
        yield Padding(Text("of the last minute", style="dim"), (0, 0, 0, 2), expand=False)


def _tags(view: View) -> Iterator[Padding]:
    bad = view["bad_tags"]
    if not bad:
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("bad tag", no_wrap=True, style="yellow")
    table.add_column("why", overflow="fold")
    for tag, reason in list(bad.items())[:_MANY]:
        table.add_row(Text(tag), Text(reason))
    yield Padding(table, (1, 0, 0, 2), expand=False)
    if len(bad) > _MANY:
        yield Padding(
            Text(f"and {len(bad) - _MANY:,} more; --json has all", style="dim"), (0, 0, 0, 2), expand=False
        )


def _tries(view: View, now: datetime) -> Iterable[str]:
    if view["link"] == "up" or not view["attempts"]:
        return
    times = "once" if view["attempts"] == 1 else f"{view['attempts']:,} times"
    if view["retry_at"] is None:
        yield f"tried {times}, trying now"
    else:
        wait_s = (parse_time(view["retry_at"]) - now).total_seconds()
        yield f"tried {times}, again in {age_text(wait_s)}"


def _link(view: View) -> Text:
    return Text(f"● {view['link']}", style=_STYLE.get(view["link"], _TROUBLE))


def _hint(hint: str) -> Text:
    return Text.assemble(("hint: ", "dim"), hint)


def _age(at: str, now: datetime) -> str:
    return age_text((now - parse_time(at)).total_seconds())


def _ago(at: str | None, now: datetime) -> str:
    return f"{_age(at, now)} ago" if at else "never"


def _clock(at: str) -> str:
    return parse_time(at).strftime("%H:%M:%S")


def _ms(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 10 else f"{seconds * 1000:,.1f} ms"


def _every(seconds: float) -> str:
    return f"{seconds * 1000:g}ms" if seconds < 1 else f"{seconds:g}s"
