# SPDX-License-Identifier: Apache-2.0
"""What placing jobs by the forecast would have emitted, against placing them by the truth.

Four cases of a job with constant power: 4 h within 24 h and 24 h within 48 h, in one piece and split into hours.
"""

from dataclasses import dataclass

import numpy as np

from embellie_forecast.factors import FloatArray

CASES = ((4, 24, True), (4, 24, False), (24, 48, True), (24, 48, False))
"""(job hours, window hours, in one piece)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What is left of the saving; None where no issue has a complete truth."""

    regret_pct: float | None
    """Extra emissions against the clairvoyant placement, mean over the cases [%]."""
    saving_share_pct: float | None
    """Share of the saving that a clairvoyant placement makes against starting at once, mean over the cases [%]."""
    by_case_pct: tuple[float | None, ...]
    """The same share in each of CASES."""
    kept_g_per_kw: float
    """The saving that the forecast's placement makes, mean over issues, sum over cases, for a draw of 1 kW [g]."""
    possible_g_per_kw: float
    """The same of the clairvoyant placement; the ratio of the two is the pooled share, in which large savings count."""

    @property
    def pooled_pct(self) -> float | None:
        """Share of the saving kept, all cases together [%]."""
        return 100.0 * self.kept_g_per_kw / self.possible_g_per_kw if self.possible_g_per_kw > 0.0 else None


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
    """Return the regret, and how much of the saving is kept.

    Args:
        forecast: Shape (issues, 96).
        truth: The same; issues with a hole in the window are left out.
        minimise: True for an intensity; False for a renewable share, whose complement is then minimised.
    """
    regrets: list[float] = []
    shares: list[float | None] = []
    kept_g, possible_g = 0.0, 0.0
    for job, span, contiguous in CASES:
        said, real = forecast[:, :span], truth[:, :span]
        if not minimise:
            said, real = 1.0 - said, 1.0 - real
        whole = np.isfinite(said).all(axis=1) & np.isfinite(real).all(axis=1)
        said, real = said[whole], real[whole]
        if not len(real):
            shares.append(None)
            continue
        by_forecast = (real * hours_chosen(said, job, contiguous)).sum(axis=1)
        by_truth = (real * hours_chosen(real, job, contiguous)).sum(axis=1)
        at_once = real[:, :job].sum(axis=1)
        if by_truth.sum() > 0.0:
            regrets.append(100.0 * float(by_forecast.sum() / by_truth.sum() - 1.0))
        kept, possible = (float((at_once - placed).mean()) for placed in (by_forecast, by_truth))
        shares.append(100.0 * kept / possible if possible > 0.0 else None)
        kept_g, possible_g = kept_g + kept, possible_g + possible
    known = [share for share in shares if share is not None]
    return Placement(
        regret_pct=float(np.mean(regrets)) if regrets else None,
        saving_share_pct=float(np.mean(known)) if known else None,
        by_case_pct=tuple(shares),
        kept_g_per_kw=kept_g,
        possible_g_per_kw=possible_g,
    )
