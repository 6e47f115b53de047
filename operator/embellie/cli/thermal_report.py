# SPDX-License-Identifier: Apache-2.0
"""What `embellie thermal fit` prints and draws."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embellie.cli.thermal_data import DataError, Run, Schema, load
from embellie.cli.thermal_fit import BUSY, FAN_SPEED, Outcome, evaluate
from embellie.cli.thermal_learnt import learnt
from embellie.cli.values import written
from embellie.domain.forecast import FloatArray

_WIDTH, _HEIGHT = 48, 16
_SHADES = " .:*#"
_SCHEMAS = {
    str(Schema.GPU): "samples of a machine's GPUs",
    str(Schema.NODE): "samples of a machine's GPUs and of the machine",
    str(Schema.HOURLY): "averages of servers",
    "zone": "a thermal zone's past in Prometheus",
}
_COSTS = {
    FAN_SPEED: "where fans run at other speeds it may be off by all that they draw, a kilowatt and more on eight GPUs",
    BUSY: "what a host draws when it is busy counts as its GPUs'",
}
"""What it costs the law of node power to lack a column."""


def fit_files(files: Sequence[Path], tests: Sequence[Path], test_runs: str | None, floor_c: float) -> Outcome:
    """Read files, hold out what is to be predicted, and evaluate; raises DataError."""
    loaded = [load(path) for path in files]
    fitted = [run for one in loaded for run in one.runs]
    judged_files = [load(path) for path in tests]
    judged = [run for one in judged_files for run in one.runs]
    if test_runs:
        held = [run for run in fitted if run.matches(test_runs)]
        if not held:
            raise DataError(f"--test-runs {test_runs!r} matches no run; runs are named such as {_names(fitted)}")
        fitted = [run for run in fitted if not run.matches(test_runs)]
        judged = [*held, *judged]
    outcome = evaluate(fitted, judged, floor_c)
    left_out = sum(one.left_out for one in (*loaded, *judged_files))
    if left_out:
        outcome.parameters["rows_left_out"] = left_out
    return outcome


def _names(runs: Sequence[Run]) -> str:
    return ", ".join(run.label for run in runs[:2])


def report(outcome: Outcome, plot: Path | None) -> str:
    """Return the fit in words and a small picture; draw a PNG where asked for."""
    found = outcome.as_json()
    rows = f"{found['rows_fit']} rows fitted, {found['rows_test']} rows predicted"
    what = _SCHEMAS.get(found["schema"], found["schema"])
    if found["schema"] == Schema.HOURLY:
        what += f", one each {found['die_step_s'] / 60.0:g} min"
    parts = [f"{what}: {rows} ({outcome.parameters.get('validation', '')})"]
    if outcome.parameters.get("rows_left_out"):
        parts.append(f"{outcome.parameters['rows_left_out']} rows left out: values that no machine has")
    steady = outcome.parameters.get("power_hardly_moved")
    if steady:
        parts.append(
            f"the power of {_some(steady)} hardly moved, so what a watt warms is not known: fit runs at several powers"
        )
    stuck = outcome.parameters.get("temperature_never_moves")
    if stuck:
        parts.append(f"the temperature of {_some(stuck)} never moves: its sensor is stuck, and nothing is learnt of it")
    together = outcome.parameters.get("fitted_as_one_machine")
    if together:
        parts.append(f"{', '.join(together)} are taken to be of one machine: fit another machine on its own")
    parts += [
        f"node power is fitted without {column}: {_COSTS[column]}"
        for column in outcome.parameters.get("node_power_without", ())
    ]
    panels = _panels(outcome)
    for title, unit, pairs in panels:
        error = pairs[:, 0] - pairs[:, 1]
        parts.append(
            f"{title}: off by {np.sqrt(np.mean(error**2)):.2f} {unit} (rmse), measured less predicted "
            f"{error.mean():+.2f} {unit} in the mean; 99 % within {np.quantile(np.abs(error), 0.99):.2f} {unit}, "
            f"99.9 % within {np.quantile(np.abs(error), 0.999):.2f} {unit}"
        )
    for eps, share in found["coverage"].items():
        wanted = 100.0 * (1.0 - float(eps))
        parts.append(
            f"a margin for {wanted:g} % of the rows, learnt as they came (at last {found['margin_c'][eps]:.2f} K), "
            f"held for {100.0 * share:.2f} %"
        )
    parts += ["", *learnt(outcome), ""]
    parts += [picture(title, unit, pairs) for title, unit, pairs in panels]
    if plot is not None:
        with written(plot):
            draw(outcome, plot)
        parts.append(f"drawn: {plot}")
    return "\n".join(parts)


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(names[:3])}{' and others' if len(names) > 3 else ''}"


def _panels(outcome: Outcome) -> list[tuple[str, str, FloatArray]]:
    named = [
        ("node power", "W", outcome.node_w),
        ("GPU power", "W", outcome.gpu_w),
        (outcome.parameters.get("temperature", "die temperature"), "°C", outcome.die_c),
    ]
    return [(title, unit, np.concatenate(parts)) for title, unit, parts in named if parts]


def picture(title: str, unit: str, pairs: FloatArray) -> str:
    """Return predicted against measured as text; a perfect prediction lies on the dashes."""
    measured, predicted = pairs[:, 0], pairs[:, 1]
    low, high = float(np.min(pairs)), float(np.max(pairs))
    high = high if high > low else low + 1.0
    counts, _, _ = np.histogram2d(predicted, measured, bins=(_HEIGHT, _WIDTH), range=((low, high), (low, high)))
    top = max(1.0, float(np.log1p(counts.max())))
    rows = [f"{title} [{unit}]: predicted (up) against measured (right)"]
    for row in range(_HEIGHT - 1, -1, -1):
        cells = [
            _SHADES[min(len(_SHADES) - 1, int(np.ceil(np.log1p(c) / top * (len(_SHADES) - 1))))]
            if c
            else "-" if int(column * _HEIGHT / _WIDTH) == row else " "
            for column, c in enumerate(counts[row])
        ]  # fmt: skip
        edge = high if row == _HEIGHT - 1 else low if row == 0 else None
        rows.append(f"{'' if edge is None else format(edge, '8.0f'):>8} |{''.join(cells)}")
    rows.append(f"{'':>8} +{'-' * _WIDTH}")
    rows.append(f"{'':>9}{low:<8.0f}{'':>{_WIDTH - 16}}{high:>8.0f}")
    rows.append(f"{'':>9}rows: . few, # many; - where predicted is measured\n")
    return "\n".join(rows)


def draw(outcome: Outcome, path: Path) -> None:
    """Draw predicted against measured, and the errors, into a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = _panels(outcome)
    figure = Figure(figsize=(5.5 * len(panels), 8.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(2, len(panels), squeeze=False)
    for column, (title, unit, pairs) in enumerate(panels):
        scatter, histogram = axes[0][column], axes[1][column]
        low, high = float(pairs.min()), float(pairs.max())
        scatter.plot([low, high], [low, high], color="0.6", linewidth=1, zorder=1)
        scatter.scatter(pairs[:, 0], pairs[:, 1], s=6, alpha=0.4, edgecolors="none", zorder=2)
        scatter.set(
            title=f"{title}: predicted against measured", xlabel=f"measured [{unit}]", ylabel=f"predicted [{unit}]"
        )
        error = pairs[:, 0] - pairs[:, 1]
        histogram.hist(error, bins=60)
        histogram.axvline(0.0, color="0.6", linewidth=1)
        histogram.set(
            title=f"rmse {np.sqrt(np.mean(error**2)):.2f} {unit}",
            xlabel=f"measured less predicted [{unit}]",
            ylabel="rows",
        )
        histogram.set_yscale("symlog", linthresh=1)
    figure.savefig(path, dpi=120, format="png")
