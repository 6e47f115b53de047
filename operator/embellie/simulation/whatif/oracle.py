# SPDX-License-Identifier: Apache-2.0
"""The per-job oracle of "On the Limitations of Carbon-Aware Temporal and Spatial Workload Shifting" (EuroSys 2024).

For every start hour of a history: the sum of g/kWh over the job's hours at once, over the best contiguous run, and over
its best hours, each within job + slack hours, cut off at the end of the history; then the means over all starts.
"""

from dataclasses import dataclass

import numpy as np

from embellie.domain.forecast import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleCell:
    """One cell of the table; sums are in g/kWh x hours."""

    n_starts: int
    baseline: float
    contiguous: float
    split: float
    contiguous_saving_pct: float
    split_saving_pct: float


def oracle(hourly: FloatArray, job_hours: int, slack_hours: int, starts: int | None = None) -> OracleCell:
    """Return the oracle's means over all starts whose run at once ends within the history.

    Raises ValueError where the history is shorter than the job.

    Args:
        hourly: Carbon intensity, shape (hours,) [g/kWh].
        job_hours: Length of the job.
        slack_hours: How long it may wait.
        starts: Count the first so many starts only; None counts all.
    """
    if job_hours < 1 or slack_hours < 0:
        raise ValueError("--job-hours must be at least 1, and --slack-hours at least 0")
    count = hourly.size - job_hours + 1
    if count < 1:
        raise ValueError(f"a job of {job_hours} h does not fit into a history of {hourly.size} h")
    sums = np.concatenate(([0.0], np.cumsum(hourly)))
    runs = sums[job_hours:] - sums[:-job_hours]
    count = count if starts is None else min(count, max(1, starts))
    baseline = float(runs[:count].mean())
    contiguous = float(_sliding_minimum(runs, slack_hours + 1)[:count].mean())
    split = float(_cheapest_hours(hourly, job_hours, slack_hours)[:count].mean())
    return OracleCell(
        n_starts=count,
        baseline=baseline,
        contiguous=contiguous,
        split=split,
        contiguous_saving_pct=100.0 * (1.0 - contiguous / baseline) if baseline else 0.0,
        split_saving_pct=100.0 * (1.0 - split / baseline) if baseline else 0.0,
    )


def _sliding_minimum(values: FloatArray, width: int) -> FloatArray:
    """Return the least of `width` values from each one on, by doubling; cut off at the end."""
    result, reach = values, 1
    while reach < width:
        step = min(reach, width - reach)
        if step >= result.size:
            # Every window ends with the history.
            return np.minimum.accumulate(values[::-1])[::-1]
        shifted = np.concatenate((result[step:], np.full(step, np.inf)))
        result = np.minimum(result, shifted)
        reach += step
    return result


def _cheapest_hours(hourly: FloatArray, job_hours: int, slack_hours: int) -> FloatArray:
    """Return the sum of the `job_hours` lowest values of each window, shape (starts,)."""
    size = hourly.size
    width = min(job_hours + slack_hours, size)
    whole = np.lib.stride_tricks.sliding_window_view(hourly, width)
    result = np.empty(size - job_hours + 1)
    # Blocks keep the copy that partitioning makes in the processor's cache.
    block = max(1, 2_000_000 // width)
    for first in range(0, whole.shape[0], block):
        part = np.partition(whole[first : first + block], job_hours - 1, axis=1)[:, :job_hours]
        result[first : first + part.shape[0]] = part.sum(axis=1)
    result[whole.shape[0] :] = _cut_off(hourly[whole.shape[0] :], job_hours)
    return result


def _cut_off(tail: FloatArray, job_hours: int) -> FloatArray:
    """Return the same for windows that end with the history, from the shortest one on."""
    count = tail.size - job_hours + 1
    if count <= 0:
        return np.empty(0)
    result = np.empty(count)
    chosen = np.sort(tail[count - 1 :])
    result[-1] = total = float(chosen.sum())
    for start in range(count - 2, -1, -1):
        value = tail[start]
        if value < chosen[-1]:
            total += float(value - chosen[-1])
            place = int(np.searchsorted(chosen, value))
            chosen[place + 1 :] = chosen[place:-1].copy()
            chosen[place] = value
        result[start] = total
    return result
