# SPDX-License-Identifier: Apache-2.0
"""From the options of `embellie replay` to a case: which hours, which jobs, what policies may know."""

import math
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.simulation.whatif.axis import Axis
from embellie.simulation.whatif.capping import Cap, make_cap
from embellie.simulation.whatif.carbon_file import CarbonHistory, make_axis
from embellie.simulation.whatif.case import Site
from embellie.simulation.whatif.jobs_file import JobRow, JobTrace
from embellie.simulation.whatif.moments import parse_utc
from embellie.simulation.whatif.onsite import Usual, noisy, perfect
from embellie.simulation.whatif.onsite_file import OnSiteHistory, behind, read_on_site
from embellie.simulation.whatif.outlook import Issued, Noisy, Outlook, Perfect
from embellie.simulation.whatif.slack import Slack, parse_slack, parse_wait
from embellie.simulation.whatif.study import Power, Setup, make_setup

if TYPE_CHECKING:
    from embellie_forecast.history import ZoneHistory

_PAST = timedelta(days=14)
_MOST_SEEDS = 1000


@dataclass(kw_only=True)
class Options:
    """The command line."""

    jobs: Path | None
    sacct: Path | None
    carbon: Path | None
    column: str | None
    time_column: str
    start_hour: int | None
    hours: float | None
    anchor: str | None
    submitted_from: str | None
    submitted_until: str | None
    step: str
    policy: str
    wait: str | None
    slack: str | None
    lag_rule: str
    capacity: float | None
    interruptible: str
    forecast: str
    horizon: str
    lengths: str
    wait_price: float
    threshold: float
    units: str
    watts_per_gpu: float
    watts_per_job: float | None
    idle_watts_per_gpu: float
    pue: float
    embodied_grams_per_gpu_hour: float
    power_cap: float | None
    cap_speed: float | None
    cap_power: float | None
    on_site: Path | None
    on_site_column: tuple[str, ...]
    seeds: str
    preset: str | None
    json_path: Path | None
    html_path: Path | None


def parse_time(text: str, option: str) -> timedelta:
    """Read a length of time such as 5s, 30min or 1h."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)", text.strip())
    if found is None or float(found[1]) <= 0:
        raise ValueError(f"{option} must be a length of time such as 5s, 30min or 1h, not {text!r}")
    unit = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days"}[found[2]]
    return timedelta(**{unit: float(found[1])})


def parse_moment(text: str, option: str) -> datetime:
    """Read a moment; without a zone it is UTC."""
    try:
        return parse_utc(text)
    except ValueError:
        raise ValueError(f"{option} must be a moment such as 2021-03-04T00:00Z, not {text!r}") from None


def parse_seeds(text: str) -> list[int]:
    """Read 3, or 0..9."""
    found = re.fullmatch(r"(\d{1,9})(?:\.\.(\d{1,9}))?", text.strip())
    if found is None:
        raise ValueError(f"--seeds must be a number or a range such as 0..9, not {text!r}")
    first, last = int(found[1]), int(found[2] or found[1])
    if not first <= last < first + _MOST_SEEDS:
        raise ValueError(f"--seeds {text} must rise, and hold at most {_MOST_SEEDS} seeds")
    return list(range(first, last + 1))


def parse_share(text: str) -> float:
    """Read all, none, or a share 0..1."""
    if text in ("all", "none"):
        return 1.0 if text == "all" else 0.0
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"--interruptible must be all, none, or a share between 0 and 1, not {text!r}")
    return share


def parse_bound(options: Options) -> Slack:
    """Return the bound on waiting; one rule only may be given."""
    given = [options.wait is not None, options.slack is not None, options.lag_rule != "none"]
    if sum(given) > 1:
        raise ValueError("give only one of --wait, --slack and --lag-rule")
    try:
        if options.wait is not None:
            return parse_wait(options.wait)
        return parse_slack(options.slack) if options.slack is not None else Slack(lag_rule=options.lag_rule)
    except ValueError as error:
        raise ValueError(f"{'--slack' if options.wait is None else '--wait'}: {error}") from None


def cap_of(options: Options) -> Cap | None:
    """Return the power cap that the options describe."""
    if options.power_cap is None:
        if options.cap_speed is not None or options.cap_power is not None:
            raise ValueError("--cap-speed and --cap-power describe a cap: give --power-cap too")
        return None
    cap = make_cap(options.power_cap, options.cap_speed, options.cap_power)
    return None if (cap.speed, cap.power) == (1.0, 1.0) else cap


def on_site_of(options: Options, carbon: CarbonHistory) -> OnSiteHistory | None:
    """Return what the site's own plants deliver; ValueError names the option or column that does not fit."""
    if options.on_site is None:
        if options.on_site_column:
            raise ValueError("--on-site-column names columns of a file: give --on-site FILE too")
        return None
    if options.capacity is None:
        raise ValueError("--on-site needs --capacity: the site's own power also goes to the GPUs that idle")
    if carbon.start is None:
        raise ValueError("--on-site needs a column of times in the carbon file")
    if "marginal" in carbon.column.lower():
        raise ValueError(
            f"--on-site needs average intensities: what own power spares of {carbon.column} hangs on whether a surplus "
            "is sold"
        )
    return read_on_site(options.on_site, options.on_site_column)


def _is_direct(carbon: CarbonHistory) -> bool:
    return "direct" in carbon.column.lower()


def gather(
    options: Options, trace: JobTrace, history: CarbonHistory, seed: int, plants: OnSiteHistory | None = None
) -> Setup:
    """Return the case that the options describe, of a trace on the history of a grid, with the site's own plants.

    Raises ValueError, naming the option, for what does not fit together.
    """
    anchor = parse_moment(options.anchor, "--anchor") if options.anchor is not None else trace.anchor
    first_row = _first_row(options, history, anchor)
    step = parse_time(options.step, "--step")
    axis = make_axis(history, step=step, first_row=first_row, hours=options.hours)
    origin = anchor or axis.start
    jobs, earlier = _submitted(options, trace.jobs, origin)
    if options.start_hour is None and origin is not None and axis.start is not None and origin > axis.start:
        # The axis begins with a row of the history, and work keeps its minutes.
        within_s = (origin - axis.start).total_seconds()
        jobs, origin = tuple(replace(job, submit_s=job.submit_s + within_s) for job in jobs), axis.start
    setup = make_setup(
        jobs,
        axis,
        Site(
            capacity_gpus=options.capacity,
            idle_kw_per_gpu=options.idle_watts_per_gpu / 1000.0,
            pue=options.pue,
            embodied_g_per_gpu_h=options.embodied_grams_per_gpu_hour,
        ),
        slack=parse_bound(options),
        power=Power(watts_per_gpu=options.watts_per_gpu, watts_per_job=options.watts_per_job),
        pausable=parse_share(options.interruptible),
        anchor=origin,
        past=_past(history, step, first_row),
        earlier=earlier,
        seed=seed,
    )
    if setup.case.work.count == 0:
        hours = axis.n_slots * axis.slot_h
        raise ValueError(
            f"no job runs within the {hours:,.0f} h of carbon history that the replay has: "
            "see --start-hour, --anchor and --hours"
        )
    return setup if plants is None else behind(setup, plants, direct=_is_direct(history))


def _submitted(
    options: Options, jobs: tuple[JobRow, ...], origin: datetime | None
) -> tuple[tuple[JobRow, ...], tuple[JobRow, ...]]:
    """Return the jobs that --from and --until let in, and those that had ended before, of which lengths are learnt."""
    if options.submitted_from is None and options.submitted_until is None:
        return jobs, ()
    if origin is None:
        raise ValueError("--from and --until need the calendar: give --anchor, the moment of submit time 0")
    begin = parse_moment(options.submitted_from, "--from") if options.submitted_from else origin
    until = options.submitted_until
    end = parse_moment(until, "--until") if until else datetime.max.replace(tzinfo=UTC)
    times = [origin + timedelta(seconds=job.submit_s) for job in jobs]
    earlier = tuple(job for job, t in zip(jobs, times, strict=True) if t + timedelta(seconds=job.duration_s) <= begin)
    return tuple(job for job, t in zip(jobs, times, strict=True) if begin <= t < end), earlier


def _first_row(options: Options, history: CarbonHistory, anchor: datetime | None) -> int:
    """Return the row of the history that submit time 0 lies in."""
    if options.start_hour is not None:
        row = round(options.start_hour * 3600.0 / history.step.total_seconds())
        if row >= history.g_per_kwh.size:
            hours = history.g_per_kwh.size * history.step.total_seconds() / 3600.0
            raise ValueError(f"--start-hour must lie within the {hours:,.0f} h of the carbon file")
        return row
    if anchor is None or history.start is None:
        if options.anchor is not None:
            raise ValueError(
                "--anchor is a moment, and the carbon file has no column of times such as 2022-01-01T00:00Z: name it "
                "with --time-column, or say with --start-hour where the trace begins"
            )
        return 0
    row = (anchor - history.start) // history.step
    end = history.start + history.step * history.g_per_kwh.size
    if not 0 <= row < history.g_per_kwh.size:
        raise ValueError(
            f"the trace begins on {anchor:%Y-%m-%d %H:%M} UTC, the carbon history covers {history.start:%Y-%m-%d} to "
            f"{end:%Y-%m-%d}: choose another file, or say with --anchor which moment of it the trace begins at"
        )
    return int(row)


def _past(history: CarbonHistory, step: timedelta, first_row: int) -> FloatArray:
    """Return what the intensity was in the two weeks before, on the replay's slots."""
    day = round(86400.0 / history.step.total_seconds())
    days = min(first_row // max(1, day), round(_PAST / timedelta(days=1)))
    if days < 1:
        return np.zeros(0)
    return make_axis(history, step=step, first_row=first_row - days * day, hours=days * 24.0).values


def outlook_for(options: Options, setup: Setup, carbon: Path, history: CarbonHistory, seed: int) -> Outlook:
    """Return what policies may know of the intensity, whose history was read from the file `carbon`."""
    axis = setup.case.axis
    if options.forecast == "perfect":
        return Perfect(axis)
    noise = _noise(options.forecast)
    if noise is not None:
        return Noisy(axis, noise, seed)
    if options.forecast == "model":
        work = setup.case.work
        last = int((work.arrival + work.length + work.wait).max()) // axis.ticks_per_slot
        first = int(work.arrival.min()) // axis.ticks_per_slot
        return Issued(axis, _issues(carbon, history, axis, first, last))
    raise ValueError(
        f"--forecast must be perfect, noise:FRACTION such as noise:0.05, or model, not {options.forecast!r}"
    )


def own_outlook_for(options: Options, setup: Setup, seed: int) -> Outlook | None:
    """Return what policies may know of the site's own power; None where it has none."""
    axis, on_site = setup.case.axis, setup.case.on_site
    if on_site is None:
        return None
    noise = _noise(options.forecast)
    if noise is not None:
        return noisy(axis, on_site, noise, seed)
    return Usual(axis, on_site) if options.forecast == "model" else perfect(axis, on_site)


def _noise(forecast: str) -> float | None:
    found = re.fullmatch(r"noise:(\d*\.?\d+)", forecast)
    return None if found is None else float(found[1])


@lru_cache(maxsize=1)
def _issues(path: Path, carbon: CarbonHistory, axis: Axis, first: int, last: int) -> dict[int, FloatArray]:
    """Return the product's own forecasts as they would have been issued hour by hour, by slot."""
    from embellie_forecast.history import hour_of
    from embellie_forecast.models import HORIZON_HOURS, Target, issue_points

    if axis.start is None:
        raise ValueError("--forecast model needs a column of times in the carbon file")
    hours_a_slot, slots_an_hour = max(1, round(axis.slot_h)), max(1, round(1.0 / axis.slot_h))
    if abs(hours_a_slot - axis.slot_h * slots_an_hour) > 1e-9 or HORIZON_HOURS % hours_a_slot:
        raise ValueError("--forecast model needs a --step that divides an hour, or whole hours that divide 96")
    history = _zone_history(path, carbon)
    target = Target.DIRECT if _is_direct(carbon) else Target.LIFECYCLE
    hour = timedelta(hours=1)
    begin = axis.start + hour * math.floor(first * axis.slot_h)
    end = axis.start + hour * math.ceil(min(last, axis.known_slots - 1) * axis.slot_h)
    hours = np.arange(hour_of(begin), hour_of(end) + 1)
    since = hours - axis.start.timestamp() / 3600.0
    # What is issued while a slot of several hours lasts comes too late for its decision.
    in_time = -since % hours_a_slot < 1.0
    issues: dict[int, FloatArray] = {}
    for row, point in zip(since[in_time].tolist(), issue_points(history, target, hours[in_time]), strict=True):
        known = np.isfinite(point)
        # On a history's first day little is known, at its beginning nothing: the other hours are as likely as these.
        told = np.where(known, point, point[known].mean() if known.any() else 0.0)
        values = np.repeat(told.reshape(-1, hours_a_slot).mean(axis=1), slots_an_hour)
        issues[math.ceil(row / axis.slot_h - 1e-9)] = values
    return issues


def _zone_history(path: Path, carbon: CarbonHistory) -> "ZoneHistory":
    """Return the forecaster's view of the carbon file: with generation and weather where it has them."""
    import pandas as pd

    from embellie_forecast.history import ZoneHistory
    from embellie_forecast.history_files import read_history

    if carbon.column in ("ci_lifecycle_g_per_kwh", "ci_direct_g_per_kwh") and carbon.time_column == "timestamp_utc":
        return read_history(path)
    if carbon.step != timedelta(hours=1) or carbon.start is None:
        raise ValueError("--forecast model needs hourly rows with times")
    index = pd.date_range(carbon.start, periods=carbon.g_per_kwh.size, freq="h")
    # What was bridged looks at what came after; a forecaster must not.
    values = np.where(carbon.known, carbon.g_per_kwh, np.nan)
    name = "ci_direct_g_per_kwh" if _is_direct(carbon) else "ci_lifecycle_g_per_kwh"
    return ZoneHistory.from_frame(pd.DataFrame({name: values}, index=index), zone=carbon.column)
