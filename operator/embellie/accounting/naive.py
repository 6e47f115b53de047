# SPDX-License-Identifier: Apache-2.0
"""The sum over jobs that others print, and why it is another number than what was saved."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from embellie.accounting.curves import Run, ZonePower, power_curve
from embellie.accounting.emissions import Signal, emissions
from embellie.accounting.savings import Savings


def naive_sum(runs: Sequence[Run], pue: Mapping[str, float], signals: Mapping[str, Signal]) -> float:
    """Return the sum over jobs of what each would have emitted more, had it started when it came [g].

    This is the figure that others print: each job as if the cluster had been empty for it. A job whose hours the
    signals do not cover is left out.
    """
    total = 0.0
    for run in runs:
        signal = signals.get(run.zone)
        if signal is None or run.end <= run.start or run.latest_start is None:
            continue
        zone = ZonePower(name=run.zone, idle_kw=0.0, pue=pue.get(run.zone, 1.0))
        when_it_came = replace(run, start=run.submitted_at, end=run.submitted_at + (run.end - run.start))
        curves = [power_curve([one], zone, one.start, one.end) for one in (when_it_came, run)]
        try:
            total += emissions(curves[0], signal).grams - emissions(curves[1], signal).grams
        except ValueError:
            continue
    return total


def why_they_differ(saved: Savings, naive_g: float) -> str:
    """Return one sentence on why the sum over jobs is another number."""
    ours = saved.saved_g.value
    if abs(naive_g - ours) <= 0.05 * max(abs(naive_g), abs(ours), 1.0):
        return "The sum over jobs comes to much the same, because there was room for each job when it came."
    if saved.saved_g.low <= naive_g <= saved.saved_g.high:
        return (
            "The sum over jobs lies within the interval, so that nobody can tell the two apart here; it takes the "
            "cluster as empty for every job, and has no interval of its own."
        )
    if naive_g > ours:
        return (
            "The sum over jobs is higher, because it takes the cluster as empty for every job: where a held job only "
            "let another one run, or would have had to wait for GPUs anyway, nothing was saved."
        )
    return (
        "The sum over jobs is lower, because it leaves out what holding one job did to the others: they ran at other "
        "hours, or in another zone, than they would have."
    )
