# SPDX-License-Identifier: Apache-2.0
"""`embellie thermal fit`: how well the heat models know a machine, from files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from embellie.cli.thermal_data import MAX_GAP_S, STEP_S, DataError, Run, Schema, steps
from embellie.domain.forecast import FloatArray
from embellie.thermal.conformal import AdaptiveMargins
from embellie.thermal.die import DieModels, DieRun
from embellie.thermal.node_power import NodePowerLaw, fit_node_power
from embellie.thermal.server import KNOTS, ServerModel

MISS_RATES = (0.05, 0.01)
FOLDS = 5
LEAST_SPAN = 0.1
"""Powers that differ by less than this share of the highest teach no thermal resistance."""
FAN_SPEED, BUSY = "fan_sys_avg_rpm", "gpuN_util_pct"
"""Columns that the law of node power can do without."""
NEW_SERVER_ROWS = 48
"""Rows of a server that was never fitted that are learnt before any is scored."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """Predictions beside measurements, and the parameters behind them."""

    schema: str
    rows_fit: int = 0
    rows_test: int = 0
    step_s: float | None = None
    node_w: list[FloatArray] = field(default_factory=list)
    """Pairs (measured, predicted), shape (n, 2) [W]."""
    gpu_w: list[FloatArray] = field(default_factory=list)
    die_c: list[FloatArray] = field(default_factory=list)
    last_c: list[FloatArray] = field(default_factory=list)
    """Die temperatures at the end of a step beside the prediction of its mean [degC]."""
    coverage: dict[str, float] = field(default_factory=dict)
    margin_c: dict[str, float] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the outcome with the fields that others read."""
        die = _pairs(self.die_c)
        return {
            "schema": self.schema,
            "rows_fit": self.rows_fit,
            "rows_test": self.rows_test,
            "node_power_rmse_w": rmse(_pairs(self.node_w)),
            "die_step_s": self.step_s,
            "die_q999_c": None if die is None else round(float(np.quantile(np.abs(die[:, 0] - die[:, 1]), 0.999)), 3),
            "gpu_power_rmse_w": rmse(_pairs(self.gpu_w)),
            "coverage": self.coverage,
            "margin_c": self.margin_c,
            "parameters": self.parameters,
        }


def _pairs(parts: list[FloatArray]) -> FloatArray | None:
    return np.concatenate(parts) if parts else None


def rmse(pairs: FloatArray | None) -> float | None:
    """Return the root mean square error of (measured, predicted) pairs; None without any."""
    return None if pairs is None else round(float(np.sqrt(np.mean((pairs[:, 0] - pairs[:, 1]) ** 2))), 3)


def evaluate(fit: Sequence[Run], test: Sequence[Run], floor_c: float = 0.0) -> Outcome:
    """Fit on some runs and predict others; without others each run is predicted by the rest (leave runs out).

    Raises DataError where the runs cannot be used together.
    """
    kinds = {run.schema for run in (*fit, *test)}
    if Schema.HOURLY in kinds and len(kinds) > 1:
        raise DataError("hourly servers and samples of seconds cannot be fitted together: give them one after another")
    if not fit:
        raise DataError("no run is left to fit: --test-runs holds all of them out")
    schema = ",".join(sorted({run.schema for run in fit}))
    outcome = Outcome(schema=schema, rows_fit=sum(len(r.rows) for r in fit))
    alone = len({run.name for run in fit}) == 1
    fitted = {(run.source, run.name) for run in fit}
    both = sum((run.source, run.name) in fitted for run in test)
    outcome.parameters["validation"] = (
        f"test runs{f', {both} of {len(test)} fitted too' if both else ''}"
        if test
        else "one run that predicts itself, which tests nothing"
        if alone
        else "each run predicted by the others"
    )
    if kinds == {Schema.HOURLY}:
        _servers(fit, test, outcome, floor_c)
    else:
        _machine(fit, test, outcome, floor_c)
    return outcome


# --- samples of seconds: dies and nodes ------------------------------------------------------------------------------


def die_runs(runs: Iterable[Run]) -> list[tuple[DieRun, FloatArray]]:
    """Return every GPU's unbroken series with its end-of-step temperatures."""
    return [
        (DieRun(position=f"{run.mode}/gpu{i}", kind=run.mode, power_w=p, temperature_c=t), last)
        for run in runs
        for i in run.gpus
        for p, t, last in steps(run, i)
    ]


def _machine(fit: Sequence[Run], test: Sequence[Run], outcome: Outcome, floor_c: float) -> None:
    outcome.step_s = STEP_S
    dies = [die for die, _ in die_runs(fit)]
    if not dies:
        raise DataError(
            f"no run lasts three steps of {STEP_S:g} s without a gap of more than {MAX_GAP_S:g} s, so no die "
            "temperature can be learnt; samples that far apart say nothing of a die: scrape GPUs more often (t_s is in "
            "seconds)"
        )
    crossed = list(_left_out(fit))
    scores = [_die_errors(models, [run]) for run, models in crossed]
    models = DieModels(STEP_S)
    models.fit(dies)
    without = _missing([run for run in (*fit, *test) if run.schema is Schema.NODE])
    if FAN_SPEED in without:
        fit = [replace(run, rows=run.rows.drop(columns=FAN_SPEED, errors="ignore")) for run in fit]
    law = _node_law(fit)
    outcome.parameters |= {"die": models.as_json(), **_weak_points(fit, dies)}
    if law is not None:
        outcome.parameters["node_power_without"] = without
        outcome.parameters["node_power"] = {name: round(getattr(law, name), 3) for name in law.__slots__}
    if test:
        judged, warm = [(run, models, law) for run in test], [e for e in scores if e is not None]
    else:
        laws = {run.name: found for run, found in _laws_left_out(fit)}
        judged, warm = [(run, found, laws.get(run.name)) for run, found in crossed], []
    judge_margins(outcome, [m for e in warm for m in e.moments], _judge(outcome, judged), floor_c)
    outcome.parameters["die_q999_end_of_step_c"] = round(
        float(np.quantile(np.abs(np.diff(np.concatenate(outcome.last_c), axis=1)), 0.999)), 3
    )


def _weak_points(fit: Sequence[Run], dies: Sequence[DieRun]) -> dict[str, list[str]]:
    """Return what makes a fit worth less than it looks, by what it is called in the outcome."""
    moving = {die.position for die in dies if np.ptp(die.temperature_c) > 0.0}
    sources = sorted({run.source for run in fit})
    found = {
        "power_hardly_moved": _steady(dies),
        "temperature_never_moves": sorted({die.position for die in dies} - moving),
        "fitted_as_one_machine": sources if len(sources) > 1 else [],
    }
    return {name: told for name, told in found.items() if told}


def _judge(outcome: Outcome, judged: Sequence[tuple[Run, DieModels, NodePowerLaw | None]]) -> list[FloatArray]:
    """Put the predictions of each run beside what was measured; return the dies' errors, step by step."""
    outcome.rows_test = sum(len(run.rows) for run, _, _ in judged)
    errors: list[_Errors] = []
    for run, models, law in judged:
        found = _die_errors(models, [run])
        if found is not None:
            errors.append(found)
            outcome.die_c.append(found.pairs)
            outcome.last_c.append(found.last)
        if law is not None and run.schema is Schema.NODE:
            pairs = _node_pairs(run, law)
            outcome.node_w.append(pairs[np.isfinite(pairs).all(axis=1)])
    if not errors:
        raise DataError(
            f"no run to test lasts three steps of {STEP_S:g} s without a gap of more than {MAX_GAP_S:g} s, so no die "
            "temperature can be predicted"
        )
    return [moment for one in errors for moment in one.moments]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Errors:
    pairs: FloatArray
    last: FloatArray
    moments: list[FloatArray]
    """Errors of all GPUs, step by step."""


def _steady(dies: Sequence[DieRun]) -> list[str]:
    """Return the positions whose power says nothing of what a watt warms."""
    found: dict[str, list[FloatArray]] = {}
    for die in dies:
        found.setdefault(die.position, []).append(die.power_w)
    powers = {position: np.concatenate(parts) for position, parts in found.items()}
    return sorted(position for position, power in powers.items() if np.ptp(power) <= LEAST_SPAN * power.max())


def _die_errors(models: DieModels, runs: Sequence[Run]) -> _Errors | None:
    pairs, last, by_step = [], [], []
    for die, end in die_runs(runs):
        predicted = models.one_step(die)
        pairs.append(np.stack([die.temperature_c[1:], predicted], axis=1))
        last.append(np.stack([end[1:], predicted], axis=1))
        by_step.append(die.temperature_c[1:] - predicted)
    if not pairs:
        return None
    longest = max(e.size for e in by_step)
    moments = [np.array([e[k] for e in by_step if k < e.size]) for k in range(longest)]
    return _Errors(pairs=np.concatenate(pairs), last=np.concatenate(last), moments=moments)


def _folds(runs: Sequence[Run]) -> list[set[str]]:
    names = list(dict.fromkeys(run.name for run in runs))
    return [set(names[k :: min(FOLDS, len(names))]) for k in range(min(FOLDS, len(names)))]


def _left_out(runs: Sequence[Run]) -> Iterable[tuple[Run, DieModels]]:
    """Yield each run with models that never saw it, in the order of the runs."""
    found: dict[str, DieModels] = {}
    for fold in _folds(runs):
        rest = [die for die, _ in die_runs(r for r in runs if r.name not in fold)] or [d for d, _ in die_runs(runs)]
        if not rest:
            continue
        models = DieModels(STEP_S)
        models.fit(rest)
        found.update(dict.fromkeys(fold, models))
    return [(run, found[run.name]) for run in runs if run.name in found]


def _missing(runs: Sequence[Run]) -> list[str]:
    """Return the columns that the law of node power could use and that some run lacks."""
    busy = all(any(f"gpu{i}_util_pct" in run.rows for i in run.gpus) for run in runs)
    known = {FAN_SPEED: all(FAN_SPEED in run.rows for run in runs), BUSY: busy}
    return [column for column, everywhere in known.items() if not everywhere]


def _node_table(run: Run) -> tuple[FloatArray, FloatArray | None, FloatArray | None, FloatArray]:
    rows = run.rows
    busy = [f"gpu{i}_util_pct" for i in run.gpus if f"gpu{i}_util_pct" in rows]
    return (
        rows[[f"gpu{i}_power_w" for i in run.gpus]].sum(axis=1).to_numpy(),
        rows[FAN_SPEED].to_numpy() if FAN_SPEED in rows else None,
        (rows[busy].mean(axis=1) / 100.0).to_numpy() if busy else None,
        rows["dcmi_power_w"].to_numpy(),
    )


def _node_law(runs: Sequence[Run]) -> NodePowerLaw | None:
    tables = [_node_table(run) for run in runs if run.schema is Schema.NODE]
    if not tables:
        return None
    gpu, fans, busy, node = zip(*tables, strict=True)

    def joined(parts: Sequence[FloatArray | None]) -> FloatArray | None:
        known = [p for p in parts if p is not None]
        return np.concatenate(known) if len(known) == len(parts) else None

    try:
        return fit_node_power(np.concatenate(gpu), joined(fans), joined(busy), np.concatenate(node))
    except ValueError as error:
        raise DataError(str(error)) from error


def _laws_left_out(runs: Sequence[Run]) -> Iterable[tuple[Run, NodePowerLaw]]:
    for fold in _folds(runs):
        law = _node_law([r for r in runs if r.name not in fold]) or _node_law(runs)
        if law is not None:
            yield from ((run, law) for run in runs if run.name in fold)


def _node_pairs(run: Run, law: NodePowerLaw) -> FloatArray:
    gpu, fans, busy, node = _node_table(run)
    predicted = law.predict_w(gpu, fans if law.fan_w else None, busy)
    return np.stack([node, predicted], axis=1)


# --- hourly servers --------------------------------------------------------------------------------------------------


def _servers(fit: Sequence[Run], test: Sequence[Run], outcome: Outcome, floor_c: float) -> None:
    step_h = _step_h([*fit, *test])
    outcome.step_s = round(3600.0 * step_h, 3)
    models: dict[str, ServerModel] = {}
    last: dict[str, float] = {}
    warm: list[FloatArray] = []
    scored: list[FloatArray] = []
    rows_of: dict[str, int] = {}
    prior: ServerModel | None = None
    ahead = [(run, False) for run in fit] + [(run, True) for run in test]
    for run, is_test in sorted(ahead, key=lambda pair: (pair[1], pair[0].source, pair[0].rows["ts"].iloc[0])):
        if run.source not in models:
            models[run.source] = ServerModel(prior)
        prior = models[run.source]
        hours = _hours(run)
        rows = run.rows[["util_avg_pct", "power_avg_w", "temp_avg_c"]].to_numpy(dtype=np.float64) / (100.0, 1.0, 1.0)
        contiguous = np.abs(np.diff(hours, prepend=last.get(run.source, -np.inf)) - step_h) < 0.01 * step_h
        expected, last[run.source] = prior.follow(rows, contiguous), hours[-1]
        # Every row is predicted before it is learnt, so rows of a fit without a test are scored too.
        known = max(0, NEW_SERVER_ROWS - rows_of.get(run.source, 0))
        rows_of[run.source] = rows_of.get(run.source, 0) + len(rows)
        power, die = (np.stack([rows[known:, k + 1], expected[known:, k]], axis=1) for k in range(2))
        if is_test or not test:
            outcome.rows_test += len(die)
            outcome.gpu_w.append(power)
            outcome.die_c.append(die)
            scored.append(die[:, 0] - die[:, 1])
        else:
            warm.append(die[:, 0] - die[:, 1])
    outcome.parameters["validation"] = "each row predicted before it is learnt"
    outcome.parameters["servers"] = {name: _server_json(model) for name, model in models.items()}
    if not outcome.rows_test:
        raise DataError(f"a server needs more than {NEW_SERVER_ROWS} rows before it can be judged")
    judge_margins(outcome, one_by_one(warm), one_by_one(scored), floor_c)


def _hours(run: Run) -> FloatArray:
    hours: FloatArray = run.rows["ts"].to_numpy().astype("datetime64[s]").astype(np.int64) / 3600.0
    return hours


def _step_h(runs: Sequence[Run]) -> float:
    """Return how far apart most rows of servers are [h]; an hour where no two of one are told."""
    apart = np.concatenate([np.diff(_hours(run)) for run in runs])
    return float(np.median(apart)) if apart.size else 1.0


def one_by_one(errors: Sequence[FloatArray]) -> list[FloatArray]:
    """Return the errors of several streams, each as a moment of its own."""
    return list(np.concatenate(errors)[:, None]) if errors else []


def _server_json(model: ServerModel) -> dict[str, float]:
    power, temperature = model.power_parameters(), model.temperature_parameters()
    names = [f"watts_per_unit_to_{round(100 * k)}_percent" for k in KNOTS[1:]]
    return {
        "idle_w": round(float(power[0]), 2),
        **{name: round(float(w), 2) for name, w in zip(names, power[1:], strict=True)},
        "t0_c": round(float(temperature[0]), 2),
        "r_mk_per_w": round(1e3 * float(temperature[1]), 2),
        "memory": round(model.memory, 3),
    }


# --- margins ---------------------------------------------------------------------------------------------------------


def judge_margins(outcome: Outcome, warm: list[FloatArray], judged: list[FloatArray], floor_c: float = 0.0) -> None:
    """Run the adaptive margins over the errors in order; coverage counts what comes after the warm-up."""
    if not warm:
        first = max(1, len(judged) // 5)
        warm, judged = judged[:first], judged[first:]
    for eps in MISS_RATES:
        margins = AdaptiveMargins(1, eps, floor=floor_c)
        for errors in warm:
            margins.observe_together(0, errors)
        missed = sum(margins.observe_together(0, errors) for errors in judged)
        total = sum(e.size for e in judged)
        outcome.coverage[f"{eps:g}"] = round(1.0 - missed / max(1, total), 5)
        outcome.margin_c[f"{eps:g}"] = round(float(margins.margins()[0]), 3)
