# SPDX-License-Identifier: Apache-2.0
"""What placing jobs by the forecast would have emitted, against placing them by the truth.

Four cases of a job with constant power: 4 h within 24 h and 24 h within 48 h, in one piece and split into hours. The
97 % of LiteCast (arXiv 2511.06187) is a ratio of emissions, the clairvoyant ones to the forecast's, not a share of the
saving; its jobs are of several lengths and may begin late by a slack. `optimality_pct` and `LATER` are that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embellie_forecast.factors import FloatArray

CASES = ((4, 24, True), (4, 24, False), (24, 48, True), (24, 48, False))
"""(job hours, window hours, in one piece)."""
LATER = tuple((job, job + 24, contiguous) for job in (1, 3, 12, 24, 48) for contiguous in (True, False))
"""Jobs with 24 h of slack, as CASES."""
ROUNDING_G = 1e-9
"""A saving that is no larger is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of job: mean emissions over issues for a draw of 1 kW [g]."""

    by_forecast_g: float
    clairvoyant_g: float
    at_once_g: float
    any_hour_g: float
    """Of a job that begins at any hour of its window, each as likely."""

    @property
    def optimality_pct(self) -> float | None:
        """The clairvoyant emissions over the forecast's; 100: none could do better."""
        return 100.0 * self.clairvoyant_g / self.by_forecast_g if self.by_forecast_g > 0.0 else None

    @property
    def regret_pct(self) -> float | None:
        """Extra emissions against the clairvoyant placement."""
        return 100.0 * (self.by_forecast_g / self.clairvoyant_g - 1.0) if self.clairvoyant_g > 0.0 else None

    @property
    def saving_share_pct(self) -> float | None:
        """Share of the saving that the clairvoyant placement makes against starting at once."""
        return _share(self.at_once_g - self.by_forecast_g, self.at_once_g - self.clairvoyant_g)

    @property
    def saving_share_any_hour_pct(self) -> float | None:
        """The same against starting at any hour."""
        return _share(self.any_hour_g - self.by_forecast_g, self.any_hour_g - self.clairvoyant_g)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What is left of the saving, by case; None where no issue has a complete truth."""

    cases: tuple[Case | None, ...]
    """As CASES."""
    later: tuple[Case | None, ...]
    """As LATER."""

    def mean(self, name: str) -> float | None:
        """Return the mean over the four cases of one of their properties."""
        return _mean([getattr(case, name) for case in self.cases if case is not None])

    @property
    def kept_g_per_kw(self) -> float:
        """The saving that the forecast's placement makes, sum over the four cases [g]."""
        return sum(case.at_once_g - case.by_forecast_g for case in self.cases if case is not None)

    @property
    def possible_g_per_kw(self) -> float:
        """The same of the clairvoyant placement; the ratio of the two is the pooled share: large savings count more."""
        return sum(case.at_once_g - case.clairvoyant_g for case in self.cases if case is not None)

    @property
    def pooled_pct(self) -> float | None:
        """Share of the saving kept, all cases together [%]."""
        return _share(self.kept_g_per_kw, self.possible_g_per_kw)


def _share(kept: float, possible: float) -> float | None:
    return 100.0 * kept / possible if possible > ROUNDING_G else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def hours_chosen(values: FloatArray, job_hours: int, contiguous: bool) -> FloatArray:
    """Return which hours of each row (issues, window) the cheapest placement uses, as a mask."""
    mask = np.zeros(values.shape, dtype=bool)
    rows = np.arange(len(values))
    if contiguous:
        sums = np.lib.stride_tricks.sliding_window_view(values, job_hours, axis=1).sum(axis=2)
        start = sums.argmin(axis=1)
        for k in range(job_hours):
            mask[rows, start + k] = True
    else:
        cheapest = np.argsort(values, axis=1, kind="stable")[:, :job_hours]
        np.put_along_axis(mask, cheapest, True, axis=1)
    return mask


def judge_placement(forecast: FloatArray, truth: FloatArray, *, minimise: bool) -> Placement:
    """Return what placing by the forecast costs and keeps.

    Args:
        forecast: Shape (issues, 96).
        truth: The same; issues with a hole in the window are left out.
        minimise: True for an intensity; False for a renewable share, whose complement is then minimised.
    """
    if not minimise:
        forecast, truth = 1.0 - forecast, 1.0 - truth
    return Placement(
        cases=tuple(_case(forecast[:, :span], truth[:, :span], job, whole) for job, span, whole in CASES),
        later=tuple(_case(forecast[:, :span], truth[:, :span], job, whole) for job, span, whole in LATER),
    )


def _case(said: FloatArray, real: FloatArray, job_hours: int, contiguous: bool) -> Case | None:
    known = np.isfinite(said).all(axis=1) & np.isfinite(real).all(axis=1)
    said, real = said[known], real[known]
    if not len(real):
        return None
    by_start = np.lib.stride_tricks.sliding_window_view(real, job_hours, axis=1).sum(axis=2)
    return Case(
        by_forecast_g=float((real * hours_chosen(said, job_hours, contiguous)).sum(axis=1).mean()),
        clairvoyant_g=float((real * hours_chosen(real, job_hours, contiguous)).sum(axis=1).mean()),
        at_once_g=float(by_start[:, 0].mean()),
        any_hour_g=float(by_start.mean()),
    )
