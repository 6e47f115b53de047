# SPDX-License-Identifier: Apache-2.0
"""Forecasts in a source's own step of 15 or 30 minutes: the hourly forecast, shaped as the grid usually moves."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import pandas as pd

from embellie_forecast.exchange import ForecastDocument
from embellie_forecast.factors import FloatArray, Scope, renewable_share
from embellie_forecast.history import hour_of
from embellie_forecast.models.targets import Target
from embellie_forecast.models.within_hour import WithinHour, learn_within_hour, on_scale, own_step
from embellie_forecast.sources.guard import intensity, mix_of

HOUR = timedelta(hours=1)
MARK = "+within-hour"
"""Ends the name of the model whose hours were shaped."""
MAIN = {Scope.LIFECYCLE.value: Target.LIFECYCLE, Scope.DIRECT.value: Target.DIRECT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """What was learnt of a source's slots."""

    step: timedelta
    by_target: Mapping[Target, WithinHour]


def quarters_of(frame: pd.DataFrame, target: Target) -> "pd.Series[float] | None":
    """Return a target's own values in a source's readings; None where they tell nothing of it."""
    if target is Target.MARGINAL:
        return frame.get("ci_marginal_g_per_kwh")
    if target is not Target.RENEWABLE_SHARE:
        return intensity(frame, direct=target is Target.DIRECT)
    if "re_pct" in frame.columns:
        return frame["re_pct"] / 100.0
    generation = mix_of(frame)
    return pd.Series(renewable_share(generation), index=frame.index) if generation else None


def learn_shapes(frame: pd.DataFrame | None, signal_kind: str) -> Shapes | None:
    """Return what a source's readings in its own step teach; None where the flat hour is as good.

    Args:
        frame: Believed readings, index in UTC in the source's step.
        signal_kind: Of the forecast that is to be shaped; its intensity decides whether anything is gained.
    """
    main = MAIN.get(signal_kind)
    if frame is None or frame.empty or main is None:
        return None
    values = quarters_of(frame, main)
    step = None if values is None else own_step(values)
    if values is None or step is None:
        return None
    found = {}
    for target in (main, Target.DIRECT, Target.MARGINAL, Target.RENEWABLE_SHARE):
        known = quarters_of(frame, target)
        shape = None if known is None else learn_within_hour(known, target, step)
        if shape is not None:
            found[target] = shape
    return Shapes(step=step, by_target=found) if main in found else None


def refined(document: ForecastDocument, shapes: Shapes) -> ForecastDocument:
    """Return an hourly forecast in the shapes' step; each hour keeps its mean.

    What no shape was learnt of (air temperature, generation by source, plants) is repeated.
    """
    parts, first = round(HOUR / shapes.step), hour_of(document.start)
    main = MAIN[document.signal_kind]
    middle = document.quantile_levels.index(0.5)

    def repeated(values: FloatArray) -> FloatArray:
        return np.repeat(values, parts, axis=-1)

    def levels(values: FloatArray, target: Target) -> FloatArray:
        shape = shapes.by_target.get(target)
        if shape is None:
            return repeated(values)
        slots = shape.spread_out(values[middle], first)
        centre = on_scale(target, slots)
        hours = on_scale(target, repeated(values[middle]))
        out = np.empty((values.shape[0], slots.size))
        for k, row in enumerate(values):
            # The hour's own error and what the slot strays within it are taken to be independent.
            away = on_scale(target, repeated(row)) - hours
            out[k] = target.from_scale(centre + np.sign(k - middle) * np.hypot(away, shape.spread))
        out[middle] = slots
        return np.sort(out, axis=0)

    carbon = levels(document.carbon_g_per_kwh, main)
    mean = shapes.by_target[main].spread_out(document.carbon_mean_g_per_kwh, first)
    direct, marginal, ambient = document.direct_g_per_kwh, document.marginal_g_per_kwh, document.ambient_temperature_c
    share = document.renewable_share
    return replace(
        document,
        step=shapes.step,
        model_id=document.model_id + MARK,
        carbon_g_per_kwh=carbon,
        carbon_mean_g_per_kwh=np.clip(mean, carbon[0], carbon[-1]),
        renewable_share=None if share is None else levels(share, Target.RENEWABLE_SHARE),
        ambient_temperature_c=None if ambient is None else repeated(ambient),
        direct_g_per_kwh=None if direct is None else levels(direct, Target.DIRECT),
        marginal_g_per_kwh=None if marginal is None else levels(marginal, Target.MARGINAL),
        generation_mw={name: repeated(mw) for name, mw in document.generation_mw.items()},
    )


def hourly(values: FloatArray, step: timedelta) -> FloatArray:
    """Return means over hours of an array whose last axis has slots of a step; incomplete hours are left out."""
    parts = max(1, round(HOUR / step))
    whole = values.shape[-1] // parts * parts
    return np.asarray(values[..., :whole].reshape(*values.shape[:-1], -1, parts).mean(axis=-1), dtype=np.float64)
