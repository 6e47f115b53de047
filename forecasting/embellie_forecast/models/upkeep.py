# SPDX-License-Identifier: Apache-2.0
"""When a model is trained again, and whether the new one may replace the old one."""

from datetime import datetime

import numpy as np

from embellie_forecast.history import ZoneHistory, hour_of
from embellie_forecast.models.inputs import BACK_HOURS, outcomes, prepare
from embellie_forecast.models.splice import spliced
from embellie_forecast.models.targets import HORIZON_HOURS
from embellie_forecast.models.zone import BANK_PHASE_HOURS, ZoneModel

RETRAIN_DAYS = 28


def is_due(model: ZoneModel, at: datetime) -> bool:
    """Tell whether the model is so old that a new one should be trained."""
    return hour_of(at) - model.until_hour >= 24 * RETRAIN_DAYS


def better_on_recent(new: ZoneModel, old: ZoneModel, history: ZoneHistory, *, at: datetime, days: int = 14) -> bool:
    """Tell whether `new` would replace `old`: smaller absolute errors on the last days that neither was fitted on.

    The new model is judged by the walk that its bank records, in which no day was forecast by a model that had seen it.
    """
    end = hour_of(at)
    errors = {}
    for name, model in (("new", new), ("old", old)):
        target = model.targets[0]
        series = prepare(spliced(model.history, history).known_until(end, end + HORIZON_HOURS), target)
        total, count = 0.0, 0
        for phase in range(0, 24, BANK_PHASE_HOURS):
            bank = model.bank(target, series, end - 24 + (phase - end) % 24)
            rows = bank.issue_hours >= end - 24 * (days + HORIZON_HOURS // 24)
            error = np.abs(bank.kernel[rows, BACK_HOURS:] - outcomes(series, bank.issue_hours[rows]))
            total += float(error[np.isfinite(error)].sum())
            count += int(np.isfinite(error).sum())
        errors[name] = total / count if count else np.inf
    return new.targets[0] is old.targets[0] and errors["new"] <= errors["old"]
