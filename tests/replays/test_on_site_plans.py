# SPDX-License-Identifier: Apache-2.0
"""Plans that count on a site's own sun, played on two grids as they were: work moves into it, and emits less.

The forecaster (on its rung without a trained model) and the planner are the real ones. The grids' hours and the weather
as it was forecast are carried data of June 2021. The plant of 200 kW is made up: what it really delivers is the grid's
own measured solar generation, scaled to its peak, so that clouds come as they came and not as they were forecast.
Rows are told with `-s`.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from snapshots import gang_at, grid_zone_at, workload_at

from embellie.domain.forecast import FloatArray, Forecast
from embellie.domain.plan import Action
from embellie.domain.snapshot import Cell, RunningGang, Snapshot, Workload
from embellie.planning import plan
from embellie.telemetry.forecasts import parse_forecast
from embellie_forecast.feeds import ReplayFeed
from embellie_forecast.history import hour_of
from embellie_forecast.history_files import load_carried
from embellie_forecast.ladder import Ladder
from embellie_forecast.onsite.plants import SolarPlant
from embellie_forecast.zones import OnSite, Zone

BEGIN = datetime(2021, 6, 7, tzinfo=UTC)
HOUR = timedelta(hours=1)
ISSUED_EVERY = 6
"""Hours."""
DAYS, PEAK_KW, BASE_KW, PUE, NODES = 7, 200.0, 40.0, 1.2, 40
SITES = {"US-CISO": (36.0, -120.0), "US-PJM": (39.0, -77.5)}


@dataclass
class Week:
    """A region's hours as they were, and as they were forecast before them."""

    grid_g: FloatArray
    sun_kw: FloatArray
    forecasts: list[Forecast]


def week(region: str) -> Week:
    """Return what was, for the days and one more, and the forecasts that were made of them."""
    latitude, longitude = SITES[region]
    roof = SolarPlant(peak_kw=PEAK_KW, latitude=latitude, longitude=longitude)
    zone = Zone(name="west", grid_region=region, on_site=(OnSite(name="roof", plant=roof, meter=None),))
    ladder = Ladder(feed=ReplayFeed(), origin=BEGIN, models=None)
    forecasts = [
        parse_forecast(ladder.issue(zone, BEGIN + k * ISSUED_EVERY * HOUR).document.to_json())
        for k in range(24 * DAYS // ISSUED_EVERY)
    ]
    history = load_carried(region)
    first = hour_of(BEGIN) - history.first_hour
    rows = slice(first, first + 24 * (DAYS + 2))
    solar = history.generation_mw["solar"]
    sun_kw = PEAK_KW * solar[rows] / solar[first - 24 * 90 : first + 24 * 90].max()
    return Week(np.nan_to_num(history.lifecycle_g_per_kwh[rows]), np.nan_to_num(sun_kw), forecasts)


def arrivals() -> list[tuple[int, Workload]]:
    """64 Jobs of 8 GPUs a day, at any hour of it, of one to four hours, that may wait for a day."""
    rng, found = np.random.default_rng(11), []
    for i in range(64 * DAYS):
        hour, length = int(rng.integers(0, 24 * DAYS)), float(rng.choice([1.0, 2.0, 4.0]))
        created = BEGIN + hour * HOUR
        job = workload_at(
            created,
            f"w{i}",
            created_at=created,
            latest_start=created + 24 * HOUR,
            power_kw=5.0,
            worst_power_kw=6.0,
            duration_p50_s=3600.0 * length,
            duration_p90_s=3600.0 * length,
        )
        found.append((hour, job))
    return found


def played(scene: Week, *, with_sun: bool | None) -> FloatArray:
    """Return IT power by hour; None: everybody starts at once, else by plans that know of the sun or not."""
    power, waiting, running = np.zeros(24 * (DAYS + 2)), list[Workload](), list[RunningGang]()
    left = sorted(arrivals(), key=lambda a: a[0])
    hour = 0
    while left or waiting:
        now = BEGIN + hour * HOUR
        while left and left[0][0] <= hour:
            waiting.append(left.pop(0)[1])
        running = [gang for gang in running if gang.expected_end_p50 > now]
        forecast = scene.forecasts[min(hour // ISSUED_EVERY, len(scene.forecasts) - 1)]
        forecast = forecast if with_sun else replace(forecast, on_site=())
        free = 8 * NODES - sum(gang.gpus for gang in running)
        snapshot = Snapshot(
            now=now,
            turn_s=60.0,
            workloads=tuple(waiting),
            cells=(
                Cell(
                    name="west",
                    grid_zone="west",
                    thermal_zone=None,
                    gpus_total=8 * NODES,
                    node_free_gpus=(8,) * (free // 8),
                    pue=PUE,
                ),
            ),
            grid_zones=(grid_zone_at(now, None, base_power_kw=BASE_KW, forecast=forecast),),
            thermal_zones=(),
            running=tuple(running),
        )
        decisions = {d.key: d for d in plan(snapshot).decisions} if with_sun is not None else {}
        for w in list(waiting):
            if with_sun is None or decisions[w.key].action is Action.RELEASE:
                end = now + timedelta(seconds=w.duration_p50_s)
                running.append(gang_at(now, power_kw=w.power_kw, expected_end_p50=end, expected_end_p90=end))
                power[hour : hour + round(w.duration_p50_s / 3600.0)] += w.power_kw
                waiting.remove(w)
        hour += 1
    return power


def emitted_kg(scene: Week, it_kw: FloatArray) -> tuple[float, float]:
    """Return what the site emitted, the sun it used taken off, and how many kWh of it work and nodes used."""
    draw = BASE_KW + PUE * it_kw
    used = np.minimum(scene.sun_kw, draw)
    grams = scene.grid_g * draw - np.maximum(scene.grid_g - 45.0, 0.0) * used
    return float(grams.sum()) / 1000.0, float(used.sum())


@pytest.mark.parametrize("region", list(SITES))
def test_a_week_of_plans_that_know_of_the_roof_uses_more_of_it_and_emits_less(region: str) -> None:
    scene = week(region)
    found = {}
    for name, knows in (("start at once", None), ("grid alone", False), ("own sun", True)):
        it_kw = played(scene, with_sun=knows)
        found[name] = (*emitted_kg(scene, it_kw), float(it_kw.sum()))
        print(f"{region} {name}: {found[name][0]:,.0f} kg CO2e, {found[name][1]:,.0f} kWh of the sun used")
    work_kwh = {round(kwh, 6) for _, _, kwh in found.values()}
    assert len(work_kwh) == 1, "the same work, whatever is planned"
    assert found["own sun"][1] > found["grid alone"][1]
    assert found["own sun"][0] < min(found["grid alone"][0], found["start at once"][0])
