# SPDX-License-Identifier: Apache-2.0
"""The grid's ribbon: carbon intensity over time as coloured blocks, the past solid, the coming hours with their band.

One terminal cell carries two colours and a block of eighths, so that a few rows of text resolve enough steps to see
a ramp. What lies above the median up to the high quantile is drawn darker, what lies between low and median half dark.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from rich.style import Style
from rich.text import Text

from embellie_testbed.demo.picture import ZonePicture

EIGHTHS = " ▁▂▃▄▅▆▇█"
_STOPS = (
    (0.0, (38, 166, 121)),
    (0.35, (134, 196, 82)),
    (0.6, (240, 201, 67)),
    (0.8, (232, 126, 52)),
    (1.0, (196, 52, 62)),
)
_PAST_H, _AHEAD_H = 18.0, 30.0
_SHADES = {"solid": 1.0, "lower": 0.66, "upper": 0.36}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The intensities between which colours and heights run [g/kWh]."""

    low: float
    high: float

    def fraction(self, value: float) -> float:
        """Return where `value` lies between low and high, clipped to 0..1."""
        return min(1.0, max(0.0, (value - self.low) / max(1e-9, self.high - self.low)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The stretch of time that the ribbon covers, one cell per `step`."""

    start: datetime
    now: datetime
    step: timedelta
    cells: int

    def at(self, cell: int) -> datetime:
        """Return the middle of a cell."""
        return self.start + self.step * (cell + 0.5)

    def cell_of(self, moment: datetime) -> int:
        """Return the cell that `moment` falls in (may lie outside the ribbon)."""
        return int((moment - self.start) // self.step)


def window_around(now: datetime, *, cells: int) -> Window:
    """Lay a window of `cells` around `now`."""
    step = timedelta(hours=(_PAST_H + _AHEAD_H) / max(1, cells))
    return Window(start=now - timedelta(hours=_PAST_H), now=now, step=step, cells=cells)


def colour(fraction: float, shade: float = 1.0) -> str:
    """Return the colour of an intensity: green for the cleanest hours, red for the dirtiest."""
    place = min(1.0, max(0.0, fraction))
    for (low, first), (high, second) in pairwise(_STOPS):
        if place <= high:
            share = (place - low) / (high - low)
            mixed = [round((a + (b - a) * share) * shade) for a, b in zip(first, second, strict=True)]
            return "#{:02x}{:02x}{:02x}".format(*mixed)
    raise AssertionError("unreachable: the stops cover 0..1")


def ribbon(zone: ZonePicture, *, window: Window, scale: Scale, rows: int) -> list[Text]:
    """Draw one zone's ribbon, top row first."""
    columns = [_column(zone, window, cell, scale, rows * 8) for cell in range(window.cells)]
    now_cell = window.cell_of(window.now)
    lines = []
    for row in reversed(range(rows)):
        line = Text(no_wrap=True)
        for cell, column in enumerate(columns):
            if cell == now_cell:
                line.append("│", Style(color="bright_white", bold=True))
            else:
                line.append(*_cell(column[row * 8 : row * 8 + 8]))
        lines.append(line)
    return lines


def axis(window: Window) -> Text:
    """Write the hours under the ribbon, every six hours, with the day at midnight."""
    line = [" "] * window.cells
    now_cell = window.cell_of(window.now)
    if 0 <= now_cell <= window.cells - 3:
        line[now_cell : now_cell + 3] = "now"
    first = window.start.replace(hour=0, minute=0, second=0, microsecond=0)
    for sixth in range(16):
        moment = first + timedelta(hours=6 * sixth)
        label = f"{moment:%a} 00h" if moment.hour == 0 else f"{moment:%H}h"
        cell = window.cell_of(moment)
        if 0 <= cell <= window.cells - len(label) and "".join(line[max(0, cell - 1) : cell + len(label) + 1]).isspace():
            line[cell : cell + len(label)] = label
    text = Text("".join(line), style="grey58", no_wrap=True)
    text.stylize(Style(color="bright_white", bold=True), now_cell, now_cell + 3)
    return text


def _column(zone: ZonePicture, window: Window, cell: int, scale: Scale, height: int) -> list[str | None]:
    """Return the colour of each eighth of one column, from the bottom; None where nothing is drawn."""
    moment = window.at(cell)
    if moment < window.now:
        for hour in zone.past:
            if hour.start <= moment < hour.start + timedelta(hours=1):
                fraction = scale.fraction(hour.carbon_g_per_kwh)
                filled = _filled(fraction, height)
                return [colour(fraction)] * filled + [None] * (height - filled)
        return [None] * height
    for ahead in zone.forecast:
        if ahead.start <= moment < ahead.start + timedelta(hours=1):
            fraction = scale.fraction(ahead.median_g_per_kwh)
            ends = [_filled(scale.fraction(v), height) for v in (ahead.low_g_per_kwh, ahead.median_g_per_kwh)]
            ends += [_filled(scale.fraction(ahead.high_g_per_kwh), height), height]
            shades = [colour(fraction, _SHADES[name]) for name in ("solid", "lower", "upper")]
            column: list[str | None] = []
            for end, shade in zip(ends, [*shades, None], strict=True):
                column += [shade] * max(0, end - len(column))
            return column
    return [None] * height


def _filled(fraction: float, height: int) -> int:
    """Return how many eighths a fraction fills; the lowest value still shows one."""
    return max(1, round(fraction * height))


def _cell(eighths: list[str | None]) -> tuple[str, Style]:
    """Draw eight stacked colours as one block with a colour above and one below."""
    below = eighths[0]
    count = next((i for i, shade in enumerate(eighths) if shade != below), 8)
    if below is None:
        return " ", Style.null()
    if count == 8:
        return "█", Style(color=below)
    above = max(set(eighths[count:]), key=lambda shade: (eighths[count:].count(shade), shade or ""))
    return EIGHTHS[count], Style(color=below, bgcolor=above) if above else Style(color=below)
