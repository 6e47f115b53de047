# SPDX-License-Identifier: Apache-2.0
"""A forecast as a picture: in the terminal, and as a PNG."""

from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from embellie.domain.forecast import FloatArray

if TYPE_CHECKING:
    from embellie_forecast.exchange import ForecastDocument, OnSiteForecast

ROWS = 12
AXIS_WIDTH = 7
WINDOW = timedelta(hours=4)
EIGHTHS = " ▁▂▃▄▅▆▇█"
BAND, MIDDLE = "▒", "█"
LABELS = {
    "AverageLifecycle": "life-cycle average [gCO2e/kWh]",
    "AverageDirect": "direct average [gCO2/kWh]",
    "Marginal": "marginal [gCO2e/kWh]",
}
RUNG_STYLES = {
    "Live": "green", "LastGood": "yellow", "Calendar": "yellow", "Climatology": "dark_orange", "Neutral": "red",
}  # fmt: skip


def best_window(document: "ForecastDocument") -> tuple[int, float] | None:
    """Return the first slot of the cleanest four hours and their mean [g/kWh]; None where no hours are better."""
    mean, slots = document.carbon_mean_g_per_kwh, _window_slots(document)
    if mean.size < slots or float(np.ptp(mean)) == 0.0:
        return None
    means = np.convolve(mean, np.ones(slots) / slots, mode="valid")
    first = int(np.argmin(means))
    return first, float(means[first])


def _window_slots(document: "ForecastDocument") -> int:
    return max(1, round(WINDOW / document.step))


def draw(document: "ForecastDocument", *, width: int, zone: tzinfo | None) -> RenderableType:
    """Return the forecast for a terminal of so many columns; times in `zone` (None: this machine's)."""
    columns = max(24, min(document.carbon_mean_g_per_kwh.size, width - AXIS_WIDTH - 1))
    parts: list[RenderableType] = [_title(document, zone), Text(f"  {LABELS[document.signal_kind]}", style="dim")]
    parts += _chart(document, columns)
    parts += _axis(document, columns, zone)
    middle = document.quantile_levels.index(0.5)
    if document.renewable_share is not None:
        share = _binned(document.renewable_share[middle], columns)
        parts += _ribbon("renewable share, 0-100 %", share, 1.0, "green")
    if document.marginal_g_per_kwh is not None:
        parts += _marginal(document.marginal_g_per_kwh[middle], columns)
    for plant in document.on_site:
        parts += _plant(plant, middle, columns, document.step)
    parts.append(_best(document, zone))
    if document.attribution:
        parts.append(Text("Data: " + "; ".join(document.attribution), style="dim"))
    parts += [Text(f"Note: {reason}", style="dim") for reason in document.reasons]
    return Group(*parts)


def _title(document: "ForecastDocument", zone: tzinfo | None) -> Text:
    text = Text(document.zone, style="bold")
    text.append("  rung ")
    text.append(document.rung.value, style=RUNG_STYLES[document.rung.value])
    text.append(f"  issued {_when(document.issued_at, zone)}  {document.model_id}", style="dim")
    if document.skill_percent is not None:
        text.append(f"  errors {document.skill_percent} % smaller than yesterday's curve", style="dim")
    return text


def _binned(values: FloatArray, columns: int, how: Callable[[FloatArray], float] = np.mean) -> FloatArray:
    """Return one value for each column of the picture."""
    edges = np.linspace(0, values.size, columns + 1).round().astype(int)
    return np.array([how(values[a:b]) for a, b in pairwise(edges)])


def _chart(document: "ForecastDocument", columns: int) -> list[Text]:
    levels = document.carbon_g_per_kwh
    low, high = _binned(levels[0], columns, np.min), _binned(levels[-1], columns, np.max)
    middle = _binned(levels[document.quantile_levels.index(0.5)], columns)
    floor, top = float(low.min()), float(high.max())
    if top - floor < 1.0:
        floor, top = max(0.0, floor - 1.0), top + 1.0
    best = best_window(document)
    per_column, window = levels.shape[1] / columns, _window_slots(document)

    def row_of(values: FloatArray) -> FloatArray:
        return np.asarray(np.clip(((values - floor) / (top - floor) * ROWS).astype(int), 0, ROWS - 1), dtype=np.float64)

    rows_low, rows_high, rows_middle = row_of(low), row_of(high), row_of(middle)
    lines = []
    for row in range(ROWS - 1, -1, -1):
        value = floor + (row + 0.5) / ROWS * (top - floor)
        line = Text(f"{value:>{AXIS_WIDTH - 1}.0f} " if row % 3 == 1 or ROWS < 4 else " " * AXIS_WIDTH, style="dim")
        for k in range(columns):
            inside = best is not None and best[0] <= k * per_column < best[0] + window
            if rows_middle[k] == row:
                line.append(MIDDLE, style="bold green" if inside else "cyan")
            elif rows_low[k] <= row <= rows_high[k]:
                line.append(BAND, style="green" if inside else "blue")
            else:
                line.append(" ")
        lines.append(line)
    return lines


def _axis(document: "ForecastDocument", columns: int, zone: tzinfo | None) -> list[Text]:
    slots = document.carbon_mean_g_per_kwh.size
    ticks, labels = [" "] * columns, [" "] * (columns + 12)
    for slot in range(slots):
        moment = (document.start + slot * document.step).astimezone(zone)
        column = int(slot * columns / slots)
        if moment.hour % 6 == 0 and moment.minute == 0:
            ticks[column] = "┴"
        if moment.hour == 0 and moment.minute == 0:
            ticks[column] = "┼"
            for k, letter in enumerate(f"{moment:%a %d}"):
                labels[column + k] = letter
    line = "".join("─" if tick == " " else tick for tick in ticks)
    return [Text(" " * AXIS_WIDTH + line, style="dim"), Text(" " * AXIS_WIDTH + "".join(labels).rstrip(), style="dim")]


def _eighths(values: FloatArray, top: float) -> str:
    share = np.clip(values / top if top > 0.0 else values * 0.0, 0.0, 1.0)
    return "".join(EIGHTHS[round(float(s) * 8)] for s in share)


def _ribbon(caption: str, binned: FloatArray, top: float, style: str) -> list[Text]:
    """Return a caption and under it one line of bars, as wide as the chart."""
    return [Text(f"  {caption}", style="dim"), Text(" " * AXIS_WIDTH) + Text(_eighths(binned, top), style=style)]


def _plant(plant: "OnSiteForecast", middle: int, columns: int, step: timedelta) -> list[Text]:
    power = plant.power_kw[middle]
    energy = power.sum() * (step / timedelta(hours=1))
    top = float(plant.power_kw.max())
    caption = f"{plant.name}: {plant.kind.lower()}, 0-{top:.0f} kW, {energy:.0f} kWh, rung {plant.rung.value}"
    return _ribbon(caption, _binned(power, columns), top, "yellow")


def _marginal(values: FloatArray, columns: int) -> list[Text]:
    top = float(values.max())
    caption = f"marginal intensity, {values.min():.0f}-{top:.0f} g/kWh; never in the average above"
    return _ribbon(caption, _binned(values, columns), top, "magenta")


def _best(document: "ForecastDocument", zone: tzinfo | None) -> Text:
    best = best_window(document)
    if best is None:
        return Text("No hours are known to be cleaner than others, so nothing has a reason to wait.")
    first, mean = best
    now = float(document.carbon_mean_g_per_kwh[0])
    begin = document.start + first * document.step
    end = begin + WINDOW
    text = Text("Best window: ")
    text.append(f"{_when(begin, zone)} to {end.astimezone(zone):%H:%M}", style="bold green")
    return text + Text(f", {mean:.0f} g/kWh on average; now {now:.0f} g/kWh")


def _when(moment: datetime, zone: tzinfo | None) -> str:
    local = moment.astimezone(zone)
    return f"{local:%a %d %b %H:%M} {local.tzname()}"


def save_png(document: "ForecastDocument", path: Path, *, zone: tzinfo | None) -> None:
    """Draw the forecast into a PNG; OSError where the disk refuses."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    slots = document.carbon_mean_g_per_kwh.size
    times = [(document.start + k * document.step).astimezone(zone) for k in range(slots + 1)]
    figure, axes = plt.subplots(
        2 if document.on_site else 1, 1, figsize=(10, 6.5 if document.on_site else 4.2), sharex=True, squeeze=False
    )
    try:
        _draw_grid(document, axes[0, 0], times, zone)
        if document.on_site:
            _draw_on_site(document, axes[1, 0], times)
        _mark_days(axes[-1, 0], times, zone)
        if document.attribution:
            figure.text(0.01, 0.005, "Data: " + "; ".join(document.attribution), fontsize=6, color="gray")
        figure.tight_layout(rect=(0, 0.02, 1, 1))
        figure.savefig(path, dpi=130, format="png")
    finally:
        plt.close(figure)


def _steps(values: FloatArray) -> FloatArray:
    """Repeat the last value, which lasts until the end of its slot."""
    return np.append(values, values[-1])


def _draw_grid(document: "ForecastDocument", axes: Any, times: list[datetime], zone: tzinfo | None) -> None:
    """Draw the carbon intensity with its range, the best window, and the renewable share."""
    levels = document.quantile_levels
    low, high = document.carbon_g_per_kwh[0], document.carbon_g_per_kwh[-1]
    label = f"{levels[0]:.0%} to {levels[-1]:.0%}"
    axes.fill_between(times, _steps(low), _steps(high), step="post", alpha=0.25, color="tab:blue", label=label)
    middle = document.carbon_g_per_kwh[levels.index(0.5)]
    axes.step(times, _steps(middle), where="post", color="tab:blue", label="median")
    best = best_window(document)
    if best is not None:
        begin = document.start + best[0] * document.step
        label = f"best {WINDOW / timedelta(hours=1):.0f} h, {best[1]:.0f} g/kWh"
        axes.axvspan(begin, begin + WINDOW, color="tab:green", alpha=0.2, label=label)
    axes.set_ylabel(LABELS[document.signal_kind])
    title = f"{document.zone}: rung {document.rung.value}, issued {_when(document.issued_at, zone)}"
    axes.set_title(title, loc="left", fontsize=10, pad=22)
    if document.renewable_share is not None:
        right = axes.twinx()
        share = document.renewable_share[levels.index(0.5)]
        right.step(times, 100.0 * _steps(share), where="post", color="tab:green", linewidth=0.8, linestyle="--")
        right.set_ylim(0, 100)
        right.set_ylabel("renewable share [%], dashed", color="tab:green")
    # Between the title and the curves: inside it would hide part of the range.
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), fontsize=8, ncols=3, frameon=False)


def _draw_on_site(document: "ForecastDocument", axes: Any, times: list[datetime]) -> None:
    """Draw what plants on site will deliver, with its range."""
    middle = document.quantile_levels.index(0.5)
    for plant in document.on_site:
        name = f"{plant.name} ({plant.kind.lower()})"
        (line,) = axes.step(times, _steps(plant.power_kw[middle]), where="post", label=name)
        low, high = _steps(plant.power_kw[0]), _steps(plant.power_kw[-1])
        axes.fill_between(times, low, high, step="post", alpha=0.2, color=line.get_color())
    axes.set_ylabel("on-site power [kW]")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), fontsize=8, ncols=4, frameon=False)


def _mark_days(axes: Any, times: list[datetime], zone: tzinfo | None) -> None:
    from matplotlib import dates

    # matplotlib.dates has no types.
    axes.xaxis.set_major_locator(dates.DayLocator(tz=zone))  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(dates.DateFormatter("%a %d %b", tz=zone))  # type: ignore[no-untyped-call]
    axes.xaxis.set_minor_locator(dates.HourLocator(byhour=(6, 12, 18), tz=zone))  # type: ignore[no-untyped-call]
    axes.grid(visible=True, axis="x", alpha=0.3)
    axes.set_xlim(times[0], times[-1])
