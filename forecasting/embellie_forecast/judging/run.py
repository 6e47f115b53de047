# SPDX-License-Identifier: Apache-2.0
"""Judging one file by one protocol; the result is plain data, ready for JSON."""

import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embellie_forecast.factors import FloatArray
from embellie_forecast.history import HistoryError, instant_of
from embellie_forecast.history_files import read_history
from embellie_forecast.judging.placement import CASES, LATER, Case, judge_placement
from embellie_forecast.judging.protocols import Plan, Protocol, ProtocolError, plan
from embellie_forecast.judging.scores import TIE, by_day, concordance, crps, interval_score, percentage_error
from embellie_forecast.models.inputs import prepare
from embellie_forecast.models.kernels import MIN_TRAINING_ISSUES, TooLittleDataError
from embellie_forecast.models.series import IssuedSeries, issue_at
from embellie_forecast.models.targets import HORIZON_HOURS, QUANTILE_LEVELS, Settings, Target, WeatherUse
from embellie_forecast.models.walk import Conditions
from embellie_forecast.models.zone import MODEL_VERSION

LOW, HIGH = QUANTILE_LEVELS.index(0.1), QUANTILE_LEVELS.index(0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """How to judge."""

    target: Target
    protocol: Protocol
    weather: WeatherUse
    refit: bool = True
    latency_hours: int = 0
    settings: Settings | None = None


def judge(path: Path, request: Request) -> dict[str, Any]:
    """Return the scores of one file, or `{file, error}`: one bad file must not stop the others."""
    try:
        return _judge(path, request)
    except (HistoryError, ProtocolError, TooLittleDataError) as error:
        return {"file": str(path), "error": str(error).removeprefix(f"{path}: ")}


def _judge(path: Path, request: Request) -> dict[str, Any]:
    history = read_history(path)
    todo = plan(request.protocol, request.target, history)
    settings = request.settings or Settings()
    # What the file lacks cannot be looked at; the result says which weather was really used.
    weather = request.weather if history.has_forecasts() else WeatherUse.NONE
    conditions = Conditions(
        weather=weather,
        latency_hours=request.latency_hours,
        refit=request.refit,
        train_from_hour=todo.train_from_hour,
        frozen_hour=todo.frozen_hour,
    )
    series = prepare(history, request.target, todo.truth)
    began = time.perf_counter()
    issued = issue_at(series, todo.issue_hours, conditions, settings)
    spent = time.perf_counter() - began
    result: dict[str, Any] = {
        "file": str(path),
        "zone": history.zone,
        "target": request.target.value,
        "protocol": request.protocol.value,
        "weather": request.weather.value,
        "weather_used": weather.value,
        "refit": "auto" if request.refit else "none",
        "latency_hours": request.latency_hours,
        "truth": todo.truth_name,
        "first_issue": f"{instant_of(int(todo.issue_hours[0])):%Y-%m-%dT%H:%MZ}",
        "last_issue": f"{instant_of(int(todo.issue_hours[-1])):%Y-%m-%dT%H:%MZ}",
        "issues": int(todo.issue_hours.size),
        "fits": issued.fits,
    }
    result |= _scores(issued, todo, request.target)
    result |= {
        "train_seconds": round(issued.fit_seconds, 3),
        "predict_seconds_per_issue": round((spent - issued.fit_seconds) / max(1, todo.issue_hours.size), 4),
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0, 1),
        "model_id": f"{MODEL_VERSION}-{history.zone}-{request.target.value}-{weather.value}",
        "notes": [*history.notes, *_left_out(issued, result["skipped_hours"], todo.horizon_days)],
    }
    return result


def _left_out(issued: IssuedSeries, skipped_hours: int, horizon_days: int) -> Iterator[str]:
    issues = int(issued.issue_hours.size)
    if skipped_hours:
        hours = 24 * horizon_days * issues
        yield f"{skipped_hours} of {hours} forecast hours are not scored: what came is unknown there, or not over 0"
    if issued.unmodelled:
        yield (
            f"{issued.unmodelled} of {issues} issues had too little before them to fit a model "
            f"({MIN_TRAINING_ISSUES} days): persistence and the week's mean stand for it"
        )


def _scores(issued: IssuedSeries, todo: Plan, target: Target) -> dict[str, Any]:
    truth = issued.truth.copy()
    truth[:, 24 * todo.horizon_days :] = np.nan
    if target.is_carbon:
        truth[~(truth > 0.0)] = np.nan
    unit = 1.0 if target.is_carbon else 100.0
    days = range(1, HORIZON_HOURS // 24 + 1)
    low, high = issued.quantiles[:, LOW], issued.quantiles[:, HIGH]
    naive_low, naive_high = issued.persistence_quantiles[:, LOW], issued.persistence_quantiles[:, HIGH]
    inside = np.where(np.isfinite(truth), 100.0 * ((low <= truth + TIE) & (truth <= high + TIE)), np.nan)
    known = np.where(np.isfinite(truth), 1.0, np.nan)
    tables: dict[str, FloatArray] = {}
    for name, forecast in (("", issued.point), ("persistence_", issued.persistence), ("weekly_", issued.weekly)):
        if target.is_carbon:
            tables[f"{name}mape"] = percentage_error(forecast, truth)
        tables[f"{name}mae"] = unit * np.abs(forecast - truth)
    tables |= {
        "coverage80": inside,
        "width80": unit * (high - low) * known,
        "interval_score": unit * interval_score(low, high, truth),
        "persistence_interval_score": unit * interval_score(naive_low, naive_high, truth),
    }
    scored = {name: by_day(values, HORIZON_HOURS // 24) for name, values in tables.items()}
    out: dict[str, Any] = {"skipped_hours": int((~np.isfinite(truth[:, : 24 * todo.horizon_days])).sum())}
    out |= {f"{name}_day{day}": _rounded(values[day - 1]) for name, values in scored.items() for day in days}
    placed, naive = (
        judge_placement(each, truth, minimise=target.is_carbon) for each in (issued.point, issued.persistence)
    )
    score = crps(issued.quantiles, issued.levels, truth)
    for name, value in (
        ("concordance", concordance(issued.point, truth)),
        ("crps", None if score is None else unit * score),
        ("regret_pct", placed.mean("regret_pct")),
        ("carbon_optimality_pct", placed.mean("optimality_pct")),
        ("persistence_carbon_optimality_pct", naive.mean("optimality_pct")),
        ("saving_share_pct", placed.mean("saving_share_pct")),
        ("saving_share_any_hour_pct", placed.mean("saving_share_any_hour_pct")),
        ("saving_share_pooled_pct", placed.pooled_pct),
        ("persistence_saving_share_pct", naive.mean("saving_share_pct")),
        ("persistence_saving_share_pooled_pct", naive.pooled_pct),
        ("saving_kept_g_per_kw", placed.kept_g_per_kw),
        ("saving_possible_g_per_kw", placed.possible_g_per_kw),
        ("persistence_saving_kept_g_per_kw", naive.kept_g_per_kw),
    ):
        out[name] = _rounded(value)
    out["saving_share_by_case_pct"] = _by_case(CASES, placed.cases, "saving_share_pct")
    for whose, found in (("", placed), ("persistence_", naive)):
        for share in ("optimality_pct", "saving_share_pct"):
            out[f"{whose}slack_24h_{share}"] = _by_case(LATER, found.later, share)
    return out


def _by_case(
    kinds: tuple[tuple[int, int, bool], ...], cases: tuple[Case | None, ...], score: str
) -> dict[str, float | None]:
    """Return a score by kind of job."""
    return {
        f"{job}h_in_{span}h_{'whole' if whole else 'split'}": None if case is None else _rounded(getattr(case, score))
        for (job, span, whole), case in zip(kinds, cases, strict=True)
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
