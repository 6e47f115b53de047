# SPDX-License-Identifier: Apache-2.0
"""What the demo's witness draws, from the events that it was told."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from embellie.domain.clock import AcceleratedClock
from embellie_testbed.demo.gauges import Gauges
from embellie_testbed.demo.grid import GridTruth
from embellie_testbed.demo.machinery import gauge_queries
from embellie_testbed.demo.observer import Observer
from embellie_testbed.demo.scenario import BEGIN, ZONES, DemoJob, Flex, Scenario
from embellie_testbed.rest import Rest

WALL = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def no_server() -> Rest:
    raise AssertionError("nobody watches here")


def observer(job: DemoJob, folder: Path) -> Observer:
    hours = np.full(168, 400.0)
    return Observer(
        connect=no_server,
        namespace="training",
        scenario=Scenario(
            seed=1, begin=BEGIN, arrivals=48 * HOUR, jobs=(job,), utilisation=0.5, left_out=0, not_drawn=0
        ),
        clock=AcceleratedClock(origin=BEGIN, wall_origin=WALL, factor=900.0),
        truths={
            site.name: GridTruth(
                zone=site.name,
                start=BEGIN - 24 * HOUR,
                carbon_g_per_kwh=hours,
                direct_g_per_kwh=hours,
                renewable_share=hours * 0,
                ambient_c=hours * 0,
            )
            for site in ZONES
        },
        places={},
        gauges=Gauges(url="http://127.0.0.1:1", queries=gauge_queries()),
        forecasts=folder,
    )


def test_a_held_job_without_a_plan_has_its_own_gpus_and_bound(tmp_path: Path) -> None:
    job = DemoJob(
        name="a", submit=BEGIN, duration=HOUR, gpus=32, flex=Flex.PATIENT, max_delay=6 * HOUR, stated_duration=None,
        watts_per_gpu=600,
    )  # fmt: skip
    witness = observer(job, tmp_path)
    witness.record.submitted("a", flex="patient", watts_per_gpu=600, now=WALL.timestamp())
    held = {"metadata": {"name": "a", "labels": {"embellie.io/held": "true"}}, "spec": {"suspend": True}}
    witness.record.apply_job("ADDED", held, WALL.timestamp())
    (shown,) = witness.picture().held
    assert (shown.gpus, shown.latest_start, shown.reason) == (32, BEGIN + 6 * HOUR, "not decided yet")
