# SPDX-License-Identifier: Apache-2.0
"""Kernel ridge regression from one issue's inputs to all 96 hours, and the last ones before it, at once.

The hours share one kernel, so a fit is a single linear solve (Saunders et al. 1998, "Ridge regression learning
algorithm in dual variables"; scikit-learn's `KernelRidge`). With a wide Gaussian kernel it is close to a linear model
of some 300 inputs that is still free to bend; a narrower one beside it bends more.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.kernel_ridge import KernelRidge

from embellie_forecast.factors import FloatArray
from embellie_forecast.models.inputs import AHEAD, BACK_HOURS, Groups
from embellie_forecast.models.targets import HORIZON_HOURS, Settings

MIN_KNOWN_SHARE = 0.08
"""A group of inputs is used if at least so much of it is known in training."""
CLIP_SD = 4.0
"""Inputs further from their mean than this many standard deviations are drawn in: one mad reading stays one."""
MIN_TRAINING_ISSUES = 28
MIN_KNOWN_OUTCOME = 0.75


class TooLittleDataError(ValueError):
    """There is not enough believed history before the cutoff to train on."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scaling:
    """Mean and spread of each group of inputs in training; a group that is not named is not used."""

    mean: Groups
    spread: Groups
    weight: dict[str, float]

    def apply(self, groups: Groups) -> FloatArray:
        """Return one matrix (issues, columns), unknown inputs at their mean."""
        parts = []
        for name, mean in self.mean.items():
            centred = (groups[name] - mean) / self.spread[name]
            centred = np.where(np.isfinite(centred), np.clip(centred, -CLIP_SD, CLIP_SD), 0.0)
            parts.append(centred * self.weight[name] / np.sqrt(mean.size))
        return np.concatenate(parts, axis=1)


def fit_scaling(groups: Groups, settings: Settings) -> Scaling:
    """Learn the scaling from training rows."""
    mean, spread, weight = {}, {}, {}
    for name, values in groups.items():
        known = np.isfinite(values)
        if known.mean() < MIN_KNOWN_SHARE or not known.any(axis=0).all():
            continue
        mean[name] = np.nanmean(values, axis=0)
        sd = np.nanstd(values, axis=0)
        # One spread for a group keeps the profile's shape; the shares of the mix differ too much for that.
        spread[name] = sd + 1e-3 if name == "mix" else np.full(sd.shape, sd.mean() + 1e-9)
        weight[name] = settings.scales[name]
    return Scaling(mean=mean, spread=spread, weight=weight)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KernelModel:
    """The fitted regressions of one hour of day."""

    scaling: Scaling
    mean_outcome: FloatArray
    regressions: tuple[KernelRidge, ...]
    n_issues: int
    first_day: "KernelModel | None" = None
    """What says the first day where the others look at weather further ahead, which only blurs that day."""

    def predict(self, groups: Groups) -> FloatArray:
        """Return the mean of the regressions, relative to the level; shape (issues, outcomes)."""
        matrix = self.scaling.apply(groups)
        each = [regression.predict(matrix) for regression in self.regressions]
        out = np.asarray(self.mean_outcome + np.mean(each, axis=0), dtype=np.float64)
        if self.first_day is not None:
            by_quantity, near = (len(out), -1, BACK_HOURS + HORIZON_HOURS), BACK_HOURS + 24
            nearer = self.first_day.predict(groups).reshape(by_quantity)
            out.reshape(by_quantity)[:, :, :near] = nearer[:, :, :near]
        return out


def fit(groups: Groups, outcome: FloatArray, settings: Settings) -> KernelModel:
    """Fit on issues whose outcomes are known.

    Args:
        groups: Inputs, one row per issue.
        outcome: Shape (issues, outcomes), relative to the level, of each quantity the BACK_HOURS before the issue and
            the 96 hours from it on; unknown hours are NaN.
        settings: Kernels and scales.

    Raises:
        TooLittleDataError: Fewer than 28 issues have a known outcome.
    """
    rows = np.isfinite(outcome).mean(axis=1) >= MIN_KNOWN_OUTCOME
    if rows.sum() < MIN_TRAINING_ISSUES:
        raise TooLittleDataError(
            f"only {int(rows.sum())} days with a known outcome to train on, and {MIN_TRAINING_ISSUES} are needed"
        )
    inputs = {name: values[rows] for name, values in groups.items()}
    known = outcome[rows]
    seen = np.isfinite(known)
    mean_outcome = np.where(seen, known, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    centred = np.where(np.isfinite(known), known - mean_outcome, 0.0)
    scaling = fit_scaling(inputs, settings)
    matrix = scaling.apply(inputs)
    regressions = tuple(
        KernelRidge(kernel="rbf", gamma=kernel.gamma, alpha=kernel.alpha).fit(matrix, centred)
        for kernel in settings.kernels
    )
    near = {name: values for name, values in groups.items() if not name.endswith(AHEAD)}
    return KernelModel(
        scaling=scaling,
        mean_outcome=mean_outcome,
        regressions=regressions,
        n_issues=int(rows.sum()),
        first_day=None if len(near) == len(groups) else fit(near, outcome, settings),
    )
