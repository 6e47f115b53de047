# SPDX-License-Identifier: Apache-2.0
"""Where the clairvoyant saving is, and who keeps how much of it: by grid and by kind of job.

The protocol is that of `bench_forecast.py` (carboncast, life-cycle, day-ahead weather). The saving is against starting
at once at 00 UTC. `day 1 known` places by the truth of the first 24 h and by our forecast after it: what it lacks is
lost on day 2 alone, for jobs that have two days. `--valid-time` takes the weather at the hour that it describes.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
from bench_forecast import GRIDS, WITH_WEATHER
from valid_time import at_valid_time

from embellie_forecast.factors import FloatArray
from embellie_forecast.history_files import read_history
from embellie_forecast.judging.placement import CASES, Case, judge_placement
from embellie_forecast.judging.protocols import Protocol, plan
from embellie_forecast.models.inputs import prepare
from embellie_forecast.models.series import IssuedSeries, issue_at
from embellie_forecast.models.targets import Settings, Target, WeatherUse
from embellie_forecast.models.walk import Conditions

KINDS = tuple(f"{job} h in {span} h, {'in one piece' if whole else 'split'}" for job, span, whole in CASES)
Found: TypeAlias = Mapping[str, Mapping[str, tuple[Case | None, ...]]]
"""Grid -> who -> cases as in CASES."""
LITTLE_PCT = 5.0
"""A grid where the clairvoyant saves less than this of its emissions (mean of the four kinds) has hardly any to win."""


def issued(folder: Path, zone: str) -> IssuedSeries:
    """Return the forecasts of the test window, as `embellie backtest --protocol carboncast` issues them."""
    history = read_history(folder / f"{zone}.csv.gz")
    todo = plan(Protocol.CARBONCAST, Target.LIFECYCLE, history)
    conditions = Conditions(
        weather=WeatherUse.DAY1 if history.has_forecasts() else WeatherUse.NONE, train_from_hour=todo.train_from_hour
    )
    return issue_at(prepare(history, Target.LIFECYCLE, todo.truth), todo.issue_hours, conditions, Settings())


def cases_of(series: IssuedSeries) -> dict[str, tuple[Case | None, ...]]:
    """Return what each way to forecast keeps."""
    truth = np.where(series.truth > 0.0, series.truth, np.nan)
    ways: dict[str, FloatArray] = {
        "ours": series.point,
        "persistence": series.persistence,
        "weekly": series.weekly,
        "day 1 known": np.concatenate([truth[:, :24], series.point[:, 24:]], axis=1),
    }
    return {who: judge_placement(said, truth, minimise=True).cases for who, said in ways.items()}


def possible_pct(case: Case) -> float:
    """Return the clairvoyant saving in percent of the emissions of starting at once."""
    return 100.0 * (case.at_once_g - case.clairvoyant_g) / case.at_once_g


def show(found: Found) -> None:
    """Print the tables."""
    whose = next(iter(found.values()))
    for k, ((hours, _, _), kind) in enumerate(zip(CASES, KINDS, strict=True)):
        print(f"\n{kind + ', saving kept [%]':42}{'possible: %':>12}{'g/kWh':>7}" + "".join(f"{w:>13}" for w in whose))
        kept: dict[str, list[float]] = {who: [] for who in whose}
        possible = []
        for zone, by_who in found.items():
            line = ""
            for who, cases in by_who.items():
                case = cases[k]
                if case is None or case.saving_share_pct is None:
                    raise SystemExit(f"{zone}: no issue with a complete truth and something to save")
                kept[who].append(case.saving_share_pct)
                line += f"{case.saving_share_pct:13.1f}"
            ours = by_who["ours"][k]
            assert ours is not None
            possible.append((possible_pct(ours), (ours.at_once_g - ours.clairvoyant_g) / hours))
            print(f"{zone:42}{possible[-1][0]:12.1f}{possible[-1][1]:7.1f}{line}")
        means = np.mean(possible, axis=0)
        weight = np.array(possible)[:, 1]
        print(f"{'mean over grids':42}{means[0]:12.1f}{means[1]:7.1f}"
              + "".join(f"{np.mean(values):13.1f}" for values in kept.values()))  # fmt: skip
        print(f"{'ratio of the sums of grams':61}"
              + "".join(f"{np.average(values, weights=weight):13.1f}" for values in kept.values()))  # fmt: skip
    lost(found)


def lost(found: Found) -> None:
    """Print which grids the missing points of the mean come from."""
    print(f"\n{'of the missing points of the mean of four kinds':49}{'kept %':>8}{'possible %':>12}{'g/kWh':>8}"
          f"{'points lost':>13}{'share of the loss %':>21}")  # fmt: skip
    rows = []
    for zone, by_who in found.items():
        cases = [case for case in by_who["ours"] if case is not None]
        kept = float(np.mean([case.saving_share_pct for case in cases]))
        pct = float(np.mean([possible_pct(case) for case in cases]))
        grams = [(case.at_once_g - case.clairvoyant_g) / job for case, (job, _, _) in zip(cases, CASES, strict=True)]
        rows.append((zone, kept, pct, float(np.mean(grams)), (100.0 - kept) / len(found)))
    total = sum(row[-1] for row in rows)
    for zone, kept, pct, gram, points in sorted(rows, key=lambda row: -row[-1]):
        print(f"{zone:49}{kept:8.1f}{pct:12.1f}{gram:8.1f}{points:13.2f}{100.0 * points / total:21.0f}")
    little = [row for row in rows if row[2] < LITTLE_PCT]
    names = ", ".join(row[0] for row in little) or "none"
    print(f"mean kept {100.0 - total:.1f}; points lost {total:.1f}, of them {sum(row[-1] for row in little):.1f} where "
          f"under {LITTLE_PCT:g} % can be saved at all ({names})")  # fmt: skip
    rest = [row[1] for row in rows if row not in little]
    print(f"mean kept elsewhere {np.mean(rest):.1f}")


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--valid-time", action="store_true", help="the weather at the hour that it describes")
    options = parser.parse_args()
    root = os.environ.get("EMBELLIE_DATA")
    if not root:
        print("saving kept: left out, EMBELLIE_DATA names no data")
        return 0
    began, folder = time.process_time(), Path(root) / "grid"
    found = {}
    with tempfile.TemporaryDirectory() as name:
        for zone in GRIDS:
            moved = options.valid_time and zone in WITH_WEATHER
            if moved:
                at_valid_time(folder, zone).to_csv(Path(name) / f"{zone}.csv.gz")
            found[zone] = cases_of(issued(Path(name) if moved else folder, zone))
            print(f"  {zone} placed", file=sys.stderr, flush=True)
    show(found)
    print(f"\n{time.process_time() - began:.0f} s of CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
