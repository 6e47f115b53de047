# SPDX-License-Identifier: Apache-2.0
"""The live terminal view: a `Picture` in, a rich renderable out.

It adapts: 120 x 40 shows everything, 80 columns stack the panels, few rows drop the list of what is held first.
"""

import re
import textwrap
from datetime import datetime
from functools import partial

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.style import Style
from rich.table import Table
from rich.text import Text

from embellie.domain.durations import format_duration
from embellie_testbed.demo import bars
from embellie_testbed.demo.picture import Counters, HeldPicture, Picture, RowPicture, Said, ZonePicture
from embellie_testbed.demo.ribbon import Scale, axis, colour, ribbon, window_around

STATE_COLOURS = {
    "Held": "#f0a93b",
    "HeldByLimit": "#e0483e",
    "Released": "#45b89a",
    "Shadow": "grey62",
    "HandedOff": "grey62",
}
WIDE = 110
LEAST_NOTE = 24
"""A note is left out where it has less room."""
_LABEL = 5
_HEAT_TITLE = "[bold white]heat[/]  [grey62]rack inlet against its limit"


def render(picture: Picture, *, width: int, height: int, scale: Scale) -> RenderableType:
    """Draw the picture for a terminal of `width` x `height` cells, never wider or higher than that."""
    wide = width >= WIDE
    ribbon_rows = 3 if height >= 34 else 2 if height >= 24 else 1
    grid_height = len(picture.zones) * (1 + ribbon_rows) + 3
    gauges, gauges_height = _gauges(picture, width=width, wide=wide)
    parts: list[RenderableType] = [_header(picture, width), _progress(picture, width)]
    parts.append(_grid(picture, width=width, rows=ribbon_rows, scale=scale))
    parts.append(gauges)
    left = height - 3 - grid_height - gauges_height
    held_rows = min(7, max(0, left - 3 - 6)) if left >= 13 else 0
    if held_rows:
        parts.append(_held(picture, width=width, rows=held_rows))
        left -= held_rows + 3
    if left >= 3:
        parts.append(_said(picture.said, width=width, rows=left - 2))
    parts.append(_footer(picture.counters, picture.note, width))
    return Group(*parts)


def status_line(picture: Picture) -> str:
    """Say the same in one line, for a log."""
    count = picture.counters
    zones = ", ".join(
        f"{z.name} {z.carbon_g_per_kwh:.0f} g/kWh {_kilowatts(z.power_kw)}/{z.contracted_kw:.0f} kW"
        for z in picture.zones
    )
    return (
        f"{picture.now:%a %d %b %H:%M} | {zones} | submitted {count.submitted}/{count.of_all}, held {count.held}, "
        f"queued {count.queued}, running {count.running}, finished {count.finished}, past bound {count.past_bound}"
    )


def _header(picture: Picture, width: int) -> Text:
    left = Text(no_wrap=True)
    left.append(" embellie ", Style(color="black", bgcolor="#45b89a", bold=True))
    if width >= WIDE:
        left.append("  wait for the break in the weather, never past the deadline", "italic grey70")
    right = Text(f"{picture.now:%a %d %b %Y  %H:%M} UTC", style="bold")
    right.append(f"   {picture.factor:.0f} x real time ", "grey58")
    return _spread(left, right, width)


def _progress(picture: Picture, width: int) -> Text:
    whole = (picture.end_of_arrivals - picture.begin).total_seconds()
    done = (picture.now - picture.begin).total_seconds()
    label = Text(f" hour {done / 3600:4.1f} of {whole / 3600:.0f} ", style="grey70", no_wrap=True)
    if done > whole:
        label = Text(f" hour {done / 3600:4.1f}, arrivals ended at {whole / 3600:.0f} ", style="grey70", no_wrap=True)
    room = max(1, width - len(label.plain) - 1)
    filled = round(room * min(1.0, max(0.0, done / whole)))
    label.append("━" * filled, Style(color="#45b89a"))
    label.append("━" * (room - filled), Style(color="grey27"))
    return label


def _grid(picture: Picture, *, width: int, rows: int, scale: Scale) -> Panel:
    inner = width - 4
    window = window_around(picture.now, cells=inner - _LABEL)
    lines: list[RenderableType] = []
    for zone in picture.zones:
        lines.append(_zone_title(zone, scale, inner))
        labels = [""] * rows
        labels[0], labels[-1] = f"{scale.high:.0f}", f"{scale.low:.0f}" if rows > 1 else ""
        for label, line in zip(labels, ribbon(zone, window=window, scale=scale, rows=rows), strict=True):
            lines.append(Text(f"{label:>{_LABEL - 1}} ", style="grey50", no_wrap=True).append_text(line))
    lines.append(Text(" " * _LABEL, no_wrap=True).append_text(axis(window)))
    meaning = "g CO2e per kWh, life-cycle average; right of now the forecast, P10 to P90"
    title = f"[bold white]the grid[/]  [grey62]{meaning if width >= WIDE else 'g CO2e per kWh, forecast P10 to P90'}"
    return _panel(Group(*lines), title, width)


def _zone_title(zone: ZonePicture, scale: Scale, inner: int) -> Text:
    left = Text(no_wrap=True)
    left.append(f"{zone.name} ", "bold")
    left.append(zone.place, "grey62")
    shade = colour(scale.fraction(zone.carbon_g_per_kwh))
    right = Text(f"{zone.carbon_g_per_kwh:.0f} g", style=Style(color=shade, bold=True))
    if zone.renewable_percent is not None:
        right.append(f"  {zone.renewable_percent} % renewable", "grey70")
    right.append(f"  outside {zone.ambient_c:.0f} °C", "grey70")
    if zone.rung and inner >= 90:
        right.append(f"  forecast: {zone.rung}", "grey62")
    return _spread(left, right, inner)


def _gauges(picture: Picture, *, width: int, wide: bool) -> tuple[RenderableType, int]:
    """Draw work, power and heat; side by side where there is room."""
    left_width = width * 58 // 100 if wide else width
    right_width = width - left_width if wide else width
    power_lines: list[Text] = []
    for zone in picture.zones:
        power_lines += [_gpu_line(zone, left_width - 4), _power_line(zone, left_width - 4)]
    heat_lines = [_heat_line(row, right_width - 4) for row in picture.rows]
    legend = f"[{bars.FLEXIBLE}]█[/][grey62] flexible [{bars.OTHER}]█[/][grey62] rigid, unlabelled ░ free"
    title = f"[bold white]work and power[/]  {legend}"
    if not wide:
        heat = _panel(Group(*heat_lines), _HEAT_TITLE, width)
        work = _panel(Group(*power_lines), title, width)
        return Group(work, heat), len(power_lines) + len(heat_lines) + 4
    lines = max(len(power_lines), len(heat_lines))
    work = _panel(Group(*power_lines), title, left_width, height=lines + 2)
    heat = _panel(
        Group(*heat_lines), "[bold white]heat[/]  [grey62]rack inlet against its limit", right_width, height=lines + 2
    )
    table = Table.grid(padding=0)
    table.add_row(work, heat)
    return table, lines + 2


def _gpu_line(zone: ZonePicture, inner: int) -> Text:
    label = f"{zone.name:<6}GPUs  "
    busy = zone.gpus_flexible + zone.gpus_other
    tail = f" {busy:>3}/{zone.gpus:<3}"
    more = f" {zone.gpus_planned:>3} to come" if inner >= 60 else ""
    room = max(4, inner - len(label) - len(tail) - len(more))
    parts = ((zone.gpus_flexible, bars.FLEXIBLE), (zone.gpus_other, bars.OTHER))
    text = Text(label, style="bold", no_wrap=True)
    text.append_text(bars.shares(parts, total=zone.gpus, width=room))
    text.append(tail, "bold")
    text.append(more, "#f0a93b" if zone.gpus_planned else "grey50")
    return text


def _power_line(zone: ZonePicture, inner: int) -> Text:
    label, tail = f"{'':<6}power ", f" {_kilowatts(zone.power_kw):>3}/{zone.contracted_kw:.0f} kW"
    spark = 16 if inner >= 60 else 0
    room = max(4, inner - len(label) - len(tail) - (spark + 1 if spark else 0))
    warn = zone.contracted_kw * 0.92
    text = Text(label, style="grey70", no_wrap=True)
    text.append_text(bars.against_limit(zone.power_kw, floor=0.0, limit=zone.contracted_kw, width=room, warn=warn))
    text.append(tail, "bold")
    if spark:
        text.append(" ")
        text.append_text(
            bars.sparkline(zone.power_history_kw, floor=0.0, limit=zone.contracted_kw, warn=warn, width=spark)
        )
    return text


def _heat_line(row: RowPicture, inner: int) -> Text:
    reading = "   –" if row.inlet_c is None else f"{row.inlet_c:4.1f}"
    label, tail = f"{row.name:<8}", f" {reading}/{row.limit_c:.0f} °C"
    spark = 10 if inner >= 42 else 0
    room = max(4, inner - len(label) - len(tail) - (spark + 1 if spark else 0))
    warn, floor = row.limit_c - row.margin_k, 15.0
    text = Text(label, style="bold", no_wrap=True)
    text.append_text(bars.against_limit(row.inlet_c, floor=floor, limit=row.limit_c, width=room, warn=warn))
    text.append(tail, "bold")
    if spark:
        text.append(" ")
        text.append_text(bars.sparkline(row.inlet_history_c, floor=floor, limit=row.limit_c, warn=warn, width=spark))
    return text


def _held(picture: Picture, *, width: int, rows: int) -> Panel:
    table = Table(box=None, padding=(0, 1), expand=True, show_edge=False, pad_edge=False, header_style="grey58")
    add, wide = partial(table.add_column, no_wrap=True, overflow="ellipsis"), width >= WIDE
    add("next to start" if wide else "next", ratio=3)
    add("", width=7)
    add("GPUs", width=4, justify="right")
    add("zone", width=9 if wide else 7)
    add("starts in", width=9, justify="right")
    add("at the latest in" if wide else "latest in", justify="right")
    add("because", ratio=3 if wide else 4)
    for held in _soonest(picture.held)[:rows]:
        table.add_row(
            held.name,
            f"[grey62]{held.flex}",
            str(held.gpus),
            held.zone.rsplit(".", 1)[-1],
            _until(picture.now, held.planned_start),
            _until(picture.now, held.latest_start),
            f"[grey70]{in_words(held.reason)}",
        )
    gpus = sum(h.gpus for h in picture.held)
    return _panel(table, f"[bold white]held[/]  [grey62]{len(picture.held)} jobs, {gpus} GPUs", width, height=rows + 3)


def _said(said: tuple[Said, ...], *, width: int, rows: int) -> Panel:
    """Show the newest decisions first, each on as many lines as its sentence needs, at most three."""
    lines: list[Text] = []
    for one in said[::-1]:
        lines += _sentence(one, width - 4)[: rows - len(lines)]
        if len(lines) >= rows:
            break
    return _panel(Group(*lines), "[bold white]decided[/]  [grey62]newest first", width, height=rows + 2)


def _sentence(one: Said, inner: int) -> list[Text]:
    head = Text(f"{one.when:%H:%M} ", style="grey58", no_wrap=True)
    head.append(f"{one.state:<9}", Style(color=STATE_COLOURS.get(one.state, "grey70")))
    head.append(f"{one.workload}  ", "bold not dim white")
    indent = 15
    first, *rest = textwrap.wrap(
        one.message,
        width=inner - indent,
        initial_indent=" " * max(0, head.cell_len - indent),
        max_lines=3,
        placeholder=" …",
    ) or [""]
    head.append(first.strip(), "grey82")
    head.truncate(inner, overflow="ellipsis")
    return [head, *(Text(" " * indent + line, style="grey82", no_wrap=True) for line in rest)]


def _footer(count: Counters, note: str, width: int) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    short = width < WIDE
    for label, value, shade in (
        ("sub" if short else "submitted", f"{count.submitted}/{count.of_all}", "white"),
        ("held", str(count.held), "#f0a93b"),
        ("queued", str(count.queued), "white"),
        ("running" if not short else "run", str(count.running), "#45b89a"),
        ("finished" if not short else "done", str(count.finished), "white"),
        ("past bound", str(count.past_bound), "#e0483e" if count.past_bound else "#45b89a"),
        ("over limit", str(count.over_limit), "#e0483e" if count.over_limit else "#45b89a"),
    ):
        text.append(f" {label} ", "grey58")
        text.append(value, Style(color=shade, bold=True))
        text.append(" ")
    if width - text.cell_len >= LEAST_NOTE:
        text.append(f" {note}", "italic grey62")
    text.truncate(width, overflow="ellipsis")
    return text


def _panel(content: RenderableType, title: str, width: int, height: int | None = None) -> Panel:
    return Panel(
        content, title=title, title_align="left", box=box.ROUNDED, border_style="grey35", width=width, height=height
    )


def _spread(left: Text, right: Text, width: int) -> Text:
    room = width - left.cell_len - right.cell_len
    if room < 1:
        right.truncate(max(0, width - left.cell_len - 1), overflow="ellipsis")
        room = width - left.cell_len - right.cell_len
    return Text(no_wrap=True).append_text(left).append(" " * max(0, room)).append_text(right)


def _soonest(held: tuple[HeldPicture, ...]) -> list[HeldPicture]:
    return sorted(held, key=lambda h: (h.planned_start or h.latest_start, h.latest_start, h.name))


def in_words(reason: str) -> str:
    """Write a reason as a person says it.

    >>> in_words("WaitingForGpus")
    'waiting for GPUs'
    """
    return re.sub(r"(?<!^)(?=[A-Z])", " ", reason).lower().replace("gpus", "GPUs")


def _until(now: datetime, moment: datetime | None) -> str:
    if moment is None:
        return "–"
    return "now" if moment <= now else format_duration(moment - now)


def _kilowatts(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"
