# SPDX-License-Identifier: Apache-2.0
"""Which issues are scored, what may be trained on, and which series is the truth: as the published papers did it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import numpy as np

from embellie_forecast.factors import FloatArray
from embellie_forecast.history import ZoneHistory, hour_of, instant_of
from embellie_forecast.models.inputs import IntArray
from embellie_forecast.models.targets import HORIZON_HOURS, Target

ROLLING_ISSUES = 365
MIN_ISSUES = 7
MIN_KNOWN_TRUTH = 0.5


class ProtocolError(ValueError):
    """The protocol cannot be run on this file; the sentence says why."""


class Protocol(StrEnum):
    """How issues are chosen."""

    CARBONCAST = "carboncast"
    ENSEMBLECI = "ensembleci"
    DACF = "dacf"
    ROLLING = "rolling"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """What a protocol means on one file."""

    issue_hours: IntArray
    truth: FloatArray
    truth_name: str
    horizon_days: int
    train_from_hour: int | None
    frozen_hour: int
    """With `--refit none`, nothing from this hour on is fitted on."""


def _day(year: int, month: int, day: int) -> int:
    return hour_of(datetime(year, month, day, tzinfo=UTC))


def _daily(first: int, last: int) -> IntArray:
    return np.arange(first, last + 1, 24, dtype=np.int64)


def plan(protocol: Protocol, target: Target, history: ZoneHistory) -> Plan:
    """Return the issues and the truth of a protocol.

    Raises:
        ProtocolError: The file lacks the target or the test window.
    """
    train_from = None
    if protocol is Protocol.CARBONCAST:
        issues, train_from, frozen = _daily(_day(2021, 7, 1), _day(2021, 12, 28)), _day(2020, 1, 1), _day(2021, 1, 1)
    elif protocol is Protocol.ENSEMBLECI:
        if history.zone.startswith("US-"):
            # The last issue whose 96 hours end with the window.
            issues, frozen = _daily(_day(2022, 7, 6), _day(2022, 12, 30)), _day(2022, 1, 1)
        else:
            issues, frozen = _daily(_day(2021, 7, 3), _day(2021, 12, 27)), _day(2021, 1, 1)
    elif protocol is Protocol.DACF:
        if target is Target.LIFECYCLE:
            raise ProtocolError("the protocol dacf scores direct emissions; use --target direct")
        issues, frozen = _daily(_day(2021, 7, 1), _day(2021, 12, 31)), _day(2021, 7, 1)
    else:
        last = (history.end_hour - HORIZON_HOURS) // 24 * 24
        first_possible = -(-(history.first_hour + 24) // 24) * 24
        possible = _daily(first_possible, last)
        issues = possible[-ROLLING_ISSUES:]
        frozen = int(issues[0]) if issues.size else 0
    truth, name = _truth(target, history, issues)
    _check(protocol, target, truth, name, history, issues)
    return Plan(
        issue_hours=issues,
        truth=truth,
        truth_name=name,
        horizon_days=1 if protocol is Protocol.DACF else HORIZON_HOURS // 24,
        train_from_hour=train_from,
        frozen_hour=frozen,
    )


def _truth(target: Target, history: ZoneHistory, issues: IntArray) -> tuple[FloatArray, str]:
    """Return the series that is scored: the papers' benchmark where the file has it for the test window."""
    if target is Target.LIFECYCLE and history.benchmark_g_per_kwh is not None and issues.size:
        window = _span(history.benchmark_g_per_kwh, history, issues)
        if window.size and np.isfinite(window).mean() >= MIN_KNOWN_TRUTH:
            return history.benchmark_g_per_kwh, "ci_lifecycle_benchmark_g_per_kwh"
    name = {
        Target.LIFECYCLE: "ci_lifecycle_g_per_kwh",
        Target.DIRECT: "ci_direct_g_per_kwh",
        Target.RENEWABLE_SHARE: "renewable share",
        Target.MARGINAL: "ci_marginal_g_per_kwh",
    }[target]
    return target.series(history), name


def _span(values: np.ndarray, history: ZoneHistory, issues: IntArray) -> np.ndarray:
    low = max(0, int(issues[0]) - history.first_hour)
    return values[low : max(0, int(issues[-1]) + 24 - history.first_hour)]


def _check(
    protocol: Protocol, target: Target, truth: FloatArray, name: str, history: ZoneHistory, issues: IntArray
) -> None:
    found = f". Found: {'; '.join(history.notes)}" if history.notes else ""
    # Hours at 0 are skipped: nobody is some percent off them.
    usable = truth > 0.0 if target.is_carbon else np.isfinite(truth)
    if not usable.any():
        column = "re_pct (0..100)" if target is Target.RENEWABLE_SHARE else f"{name} (over 0)"
        mix = "" if target is Target.MARGINAL else ", or generation by source (gen_<source>_mw)"
        if target is not Target.MARGINAL and np.any(np.nan_to_num(Target.MARGINAL.series(history)) > 0.0):
            mix += "; its marginal intensity is scored with --target marginal"
        raise ProtocolError(
            f"the file has no usable value of the target {target.value}: it needs a column {column}{mix}{found}"
        )
    covered = (
        f"the file covers {instant_of(history.first_hour):%Y-%m-%d} to {instant_of(history.end_hour - 1):%Y-%m-%d}"
    )
    if issues.size < MIN_ISSUES:
        raise ProtocolError(f"too little data for the protocol {protocol.value}: {covered}")
    if issues[0] < history.first_hour + 24 or issues[-1] >= history.end_hour:
        raise ProtocolError(
            f"the protocol {protocol.value} tests {instant_of(int(issues[0])):%Y-%m-%d} to "
            f"{instant_of(int(issues[-1])):%Y-%m-%d}, and {covered}; use --protocol rolling"
        )
    if not _span(usable, history, issues).any():
        raise ProtocolError(f"{name} has no usable value in the test window{found}")
