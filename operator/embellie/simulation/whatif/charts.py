# SPDX-License-Identifier: Apache-2.0
"""Pictures as inline SVG."""

import math
from datetime import datetime, timedelta
from html import escape

import numpy as np

from embellie.domain.forecast import FloatArray

_WIDTH, _LEFT, _RIGHT = 960.0, 58.0, 10.0
_CLEAN, _MIDDLE, _DIRTY = (72, 168, 104), (240, 226, 170), (150, 92, 52)
_INK, _QUIET, _OURS, _BASE = "#1d2730", "#5b6770", "#0b5cad", "#9aa5ae"


def colour(share: float) -> str:
    """Return the ribbon's colour: 0 is clean, 1 is dirty."""
    low, high, at = (_CLEAN, _MIDDLE, share * 2) if share < 0.5 else (_MIDDLE, _DIRTY, share * 2 - 1)
    return "#" + "".join(f"{round(a + (b - a) * at):02x}" for a, b in zip(low, high, strict=True))


def legend(entries: list[tuple[str, str]]) -> str:
    """Return a line of colours and names."""
    keys = "".join(
        f"<span style='display:inline-block;margin-right:18px'><span style='display:inline-block;width:14px;height:4px;"
        f"background:{shade};vertical-align:middle;margin-right:6px'></span>{escape(name)}</span>"
        for shade, name in entries
    )
    return f"<p class='quiet'>{keys}</p>"


def power_over_ribbon(
    g_per_kwh: FloatArray, base_kw: FloatArray, ours_kw: FloatArray, slot_h: float, start: datetime | None
) -> str:
    """Return the cluster's power under two policies over the grid's intensity, by slot."""
    height, ribbon, foot = 300.0, 34.0, 26.0
    count = max(1, g_per_kwh.size)
    wide = (_WIDTH - _LEFT - _RIGHT) / count
    low, high = float(g_per_kwh.min()), float(g_per_kwh.max())
    shares = (g_per_kwh - low) / (high - low) if high > low else np.zeros(count)
    top = max(float(base_kw.max(initial=0.0)), float(ours_kw.max(initial=0.0)), 1e-9)
    tick = _nice(top / 4.0)
    top = tick * math.ceil(top / tick)
    floor = height - ribbon - foot

    def y(kw: float) -> float:
        return 8.0 + (floor - 8.0) * (1.0 - kw / top)

    parts = [f"<svg viewBox='0 0 {_WIDTH:.0f} {height:.0f}' role='img' aria-label='power over carbon intensity'>"]
    parts += [
        f"<rect x='{_LEFT + i * wide:.2f}' y='{floor + 4:.1f}' width='{wide + 0.4:.2f}' height='{ribbon - 8:.1f}' "
        f"fill='{colour(float(s))}'/>"
        for i, s in enumerate(shares)
    ]
    parts += [
        f"<rect x='{_LEFT + i * wide:.2f}' y='8' width='{wide + 0.4:.2f}' height='{floor - 8:.1f}' "
        f"fill='{colour(float(s))}' opacity='.16'/>"
        for i, s in enumerate(shares)
    ]
    for k in range(int(top / tick + 0.5) + 1):
        parts.append(
            f"<line x1='{_LEFT}' x2='{_WIDTH - _RIGHT}' y1='{y(k * tick):.1f}' y2='{y(k * tick):.1f}' "
            "stroke='#00000018'/>"
            f"<text x='{_LEFT - 6}' y='{y(k * tick) + 4:.1f}' text-anchor='end' font-size='12' fill='{_QUIET}'>"
            f"{k * tick:,.10g}</text>"
        )
    parts.append(f"<text x='4' y='30' font-size='12' fill='{_QUIET}'>kW</text>")
    for values, shade, width in ((base_kw, _BASE, 2.0), (ours_kw, _OURS, 2.2)):
        points = "".join(
            f"{'M' if i == 0 else 'L'}{_LEFT + i * wide:.1f} {y(float(v)):.1f}H{_LEFT + (i + 1) * wide:.1f}"
            for i, v in enumerate(values)
        )
        parts.append(
            f"<path d='{points}' fill='none' stroke='{shade}' stroke-width='{width}' stroke-linejoin='round'/>"
        )
    parts += _days(count, slot_h, start, wide, height)
    return "".join([*parts, "</svg>"])


def _days(count: int, slot_h: float, start: datetime | None, wide: float, height: float) -> list[str]:
    """Return a label at each midnight."""
    offset = 0.0 if start is None else (24.0 - (start.hour + start.minute / 60.0)) % 24.0
    marks = []
    days = count * slot_h / 24.0
    each = max(1, math.ceil(days / 14.0))
    for number in range(int(days) + 1):
        at = (offset + 24.0 * number) / slot_h
        if at >= count or number % each:
            continue
        name = f"day {number + 1}" if start is None else f"{start + timedelta(hours=offset + 24.0 * number):%d %b}"
        marks.append(
            f"<text x='{_LEFT + at * wide:.1f}' y='{height - 8}' font-size='12' fill='{_QUIET}'>{name}</text>"
            f"<line x1='{_LEFT + at * wide:.1f}' x2='{_LEFT + at * wide:.1f}' y1='8' y2='{height - 22}' "
            "stroke='#00000018'/>"
        )
    return marks


def waits(delays_h: FloatArray) -> str:
    """Return a histogram of delays."""
    top = max(1.0, float(delays_h.max(initial=0.0)))
    step = _nice(top / 24.0)
    edges = np.arange(0.0, top + step, step)
    none = int((delays_h < 1e-9).sum())
    counts = np.histogram(delays_h[delays_h >= 1e-9], edges)[0]
    height, floor = 200.0, 168.0
    wide = (_WIDTH - _LEFT - _RIGHT) / (counts.size + 1)
    most = max(1, int(counts.max(initial=0)), none)
    parts = [f"<svg viewBox='0 0 {_WIDTH:.0f} {height:.0f}' role='img' aria-label='jobs by delay'>"]
    for i, count in enumerate([none, *counts.tolist()]):
        tall = (floor - 18.0) * count / most
        # The first edge, 0, would stand in the way of "none".
        label = ("none", "")[i] if i < 2 else f"{edges[i - 1]:g}"
        parts.append(
            f"<rect x='{_LEFT + i * wide + 1:.1f}' y='{floor - tall:.1f}' width='{wide - 2:.1f}' height='{tall:.1f}' "
            f"fill='{_BASE if i == 0 else _OURS}'/>"
            f"<text x='{_LEFT + i * wide + (wide / 2 if i == 0 else 1):.1f}' y='{floor + 15}' font-size='12' "
            f"text-anchor='middle' fill='{_QUIET}'>{label}</text>"
        )
        if count:
            parts.append(
                f"<text x='{_LEFT + (i + 0.5) * wide:.1f}' y='{floor - tall - 4:.1f}' font-size='11' "
                f"text-anchor='middle' fill='{_INK}'>{count:,}</text>"
            )
    parts.append(
        f"<text x='{_WIDTH - _RIGHT}' y='{height - 3}' font-size='12' text-anchor='end' fill='{_QUIET}'>"
        f"delay in hours; each bar spans {step:g} h</text>"
        f"<text x='4' y='14' font-size='12' fill='{_QUIET}'>jobs</text>"
    )
    return "".join([*parts, "</svg>"])


def bars(rows: list[tuple[str, float, str]], unit: str) -> str:
    """Return one bar a row: name, value, remark."""
    line, name_at = 24.0, 170.0
    height = line * len(rows) + 6.0
    most = max([value for _, value, _ in rows] + [1e-9])
    parts = [f"<svg viewBox='0 0 {_WIDTH:.0f} {height:.0f}' role='img' aria-label='mean delay by group'>"]
    for i, (name, value, remark) in enumerate(rows):
        wide = (_WIDTH - name_at - 190.0) * value / most
        middle = i * line + 16.0
        parts.append(
            f"<text x='{name_at - 8}' y='{middle}' font-size='13' text-anchor='end' fill='{_INK}'>{escape(name)}</text>"
            f"<rect x='{name_at}' y='{i * line + 4}' width='{wide:.1f}' height='{line - 8}' fill='{_OURS}'/>"
            f"<text x='{name_at + wide + 8:.1f}' y='{middle}' font-size='13' fill='{_INK}'>{value:.1f} {unit} "
            f"<tspan fill='{_QUIET}'>({escape(remark)})</tspan></text>"
        )
    return "".join([*parts, "</svg>"])


def _nice(step: float) -> float:
    """Return 1, 2, 2.5 or 5 times a power of ten, at least so large."""
    if step <= 0.0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if power * factor >= step - 1e-12)
