# SPDX-License-Identifier: Apache-2.0
"""Bars and sparklines for the live view."""

from rich.style import Style
from rich.text import Text

from embellie_testbed.demo.ribbon import EIGHTHS

CALM, TIGHT, OVER = "#3fa7d6", "#f0a93b", "#e0483e"
FLEXIBLE, OTHER, FREE = "#45b89a", "#7f8fd0", "#3a3f47"


def against_limit(value: float | None, *, floor: float, limit: float, width: int, warn: float) -> Text:
    """Draw `value` against `limit`: the mark stands at the limit, the bar may pass it.

    `warn` is the value from which the bar is drawn in the warning colour.
    """
    if value is None:
        return Text("no reading".center(width)[:width], style="grey50", no_wrap=True)
    top = limit + (limit - floor) * 0.12
    mark = min(width - 1, int(width * (limit - floor) / (top - floor)))
    filled = min(width, max(0, round(width * (value - floor) / (top - floor))))
    shade = OVER if value > limit else TIGHT if value > warn else CALM
    text = Text(no_wrap=True)
    for cell in range(width):
        if cell == mark:
            bold = Style(color="bright_white", bgcolor=shade if cell < filled else None, bold=True)
            text.append("▏", bold)
        elif cell < filled:
            text.append("█", Style(color=shade))
        else:
            text.append("·", Style(color="grey35"))
    return text


def shares(parts: tuple[tuple[int, str], ...], *, total: int, width: int) -> Text:
    """Draw parts of a total side by side, the rest as free."""
    text = Text(no_wrap=True)
    drawn, so_far = 0, 0
    for count, shade in parts:
        so_far += count
        until = round(width * min(so_far, total) / total) if total else 0
        text.append("█" * (until - drawn), Style(color=shade))
        drawn = max(drawn, until)
    text.append("░" * (width - drawn), Style(color=FREE))
    return text


def sparkline(values: tuple[float, ...], *, floor: float, limit: float, warn: float, width: int) -> Text:
    """Draw the latest values as blocks of eighths, coloured by where each stood against the limit."""
    text = Text(no_wrap=True)
    shown = _thin(values, width)
    text.append(" " * (width - len(shown)))
    for value in shown:
        level = min(8, max(1, round(8 * (value - floor) / max(1e-9, limit - floor))))
        text.append(EIGHTHS[level], Style(color=OVER if value > limit else TIGHT if value > warn else CALM))
    return text


def _thin(values: tuple[float, ...], width: int) -> list[float]:
    """Keep the newest value of each of `width` equal stretches, or the highest where several fall together."""
    if len(values) <= width:
        return list(values)
    return [max(values[i * len(values) // width : (i + 1) * len(values) // width]) for i in range(width)]
