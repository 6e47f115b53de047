# SPDX-License-Identifier: Apache-2.0
"""The demo's summary, against an example reckoned by hand."""

import io
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from embellie.accounting.interval import account_interval
from embellie.accounting.known import Machine, Price, Samples, ZoneInterval
from embellie.domain.reasons import SignalKind
from embellie.ledger import Draft, Kind, Ledger
from embellie.telemetry.intensity import Known, read_intensity
from embellie_testbed.demo.accounts import read_ledger
from embellie_testbed.demo.counterfactual import simulated
from embellie_testbed.demo.grid import GridTruth, write_intensity
from embellie_testbed.demo.history import History, observed
from embellie_testbed.demo.record import JobTrack, PodTrack
from embellie_testbed.demo.scenario import BEGIN, ZONES, DemoJob, Flex, Scenario
from embellie_testbed.demo.summary import Measured, Summary, as_json, summarise, write_json
from embellie_testbed.demo.summary_view import render_summary

HOUR = timedelta(hours=1)
IDLE_KW = 16 * 3.2 * 1.08
"""One zone, idle, with what its building adds."""


def job(name: str = "a", **changes: Any) -> DemoJob:
    values: dict[str, Any] = {
        "name": name,
        "submit": BEGIN,
        "duration": HOUR,
        "gpus": 8,
        "flex": Flex.PATIENT,
        "max_delay": 6 * HOUR,
        "stated_duration": None,
        "watts_per_gpu": 640,
    }
    return DemoJob(**{**values, **changes})


def scenario(*jobs: DemoJob) -> Scenario:
    return Scenario(seed=1, begin=BEGIN, arrivals=48 * HOUR, jobs=jobs, utilisation=0.55, left_out=0, not_drawn=0)


def truth(zone: str, *first_hours: float, ambient_c: float = 20.0) -> GridTruth:
    """400 g/kWh, and other values in the first hours of the demo."""
    carbon = np.full(24 + 72, 400.0)
    carbon[24 : 24 + len(first_hours)] = first_hours
    return GridTruth(
        zone=zone,
        start=BEGIN - 24 * HOUR,
        carbon_g_per_kwh=carbon,
        direct_g_per_kwh=0.8 * carbon,
        renewable_share=np.zeros(carbon.size),
        ambient_c=np.full(carbon.size, ambient_c),
    )


def wall(hours: float) -> float:
    return hours * 4.0


def history(planned: Scenario, tracks: dict[str, JobTrack], *, stopped_h: float = 48.0) -> History:
    return observed(
        tracks,
        planned,
        clock_time=lambda seconds: BEGIN + HOUR * (seconds / 4.0),
        place_of=lambda node: (node.split("-")[0], f"{node.split('-')[0]}-r1"),
        stopped=BEGIN + HOUR * stopped_h,
    )


def track(name: str, *pods: tuple[str, float, float | None], flex: str = "patient", gpus: int = 8) -> JobTrack:
    kept = JobTrack(name=name, flex=flex, watts_per_gpu=640, created=0.0)
    for k, (node, start_h, end_h) in enumerate(pods):
        kept.pods[f"{name}-{k}"] = PodTrack(
            node=node,
            gpus=gpus,
            running=wall(start_h),
            finished=None if end_h is None else wall(end_h),
        )
    return kept


def measured(**changes: Any) -> Measured:
    values: dict[str, Any] = {
        "jobs_of_all": 1,
        "jobs_submitted": 1,
        "jobs_finished": 1,
        "held": 1,
        "late": (),
        "unlabelled_delayed": 0,
        "rigid_held": 0,
        "factor": 900.0,
        "grid_hours": 50.04,
        "wall_s": 200.0,
        "operator_peak_rss_mib": 95.1,
    }
    return Measured(**{**values, **changes})


def one_job_moved_by_two_hours() -> Summary:
    # First come first served starts at once, in east: the simulator takes the emptiest cell, and of equal ones the
    # last by name. We start two hours later, in west, where the third hour is clean.
    planned = scenario(job())
    ours = history(planned, {"a": track("a", ("west-gpu-000", 2.0, 3.0))})
    truths = {"west": truth("west", 400, 400, 100), "east": truth("east")}
    return summarise(planned, truths, ours, measured())


def test_emissions_are_those_of_the_whole_cluster_idle_nodes_counted() -> None:
    # Added by the job: 8 GPUs x (640 - 140) W x 1.03 = 4.12 kW of IT power, 4.4496 kW with the building.
    # The window ends with the later of the two histories, after three hours.
    summary = one_job_moved_by_two_hours()
    idle_kg = IDLE_KW * (2 * 0.400 + 0.100) + IDLE_KW * 3 * 0.400
    assert summary.embellie.account.emissions.grams / 1000 == pytest.approx(idle_kg + 4.4496 * 0.100)
    assert summary.fifo.account.emissions.grams / 1000 == pytest.approx(idle_kg + 4.4496 * 0.400)
    assert summary.comparison.saved_grams / 1000 == pytest.approx(4.4496 * 0.300)


def test_both_histories_are_counted_over_the_same_hours() -> None:
    summary = one_job_moved_by_two_hours()
    assert (summary.embellie.account.end - BEGIN) == 3 * HOUR
    assert (summary.fifo.account.start, summary.fifo.account.end) == (BEGIN, BEGIN + 3 * HOUR)
    energies = {side.account.emissions.energy_kwh for side in (summary.embellie, summary.fifo)}
    assert max(energies) == pytest.approx(min(energies))


def test_peak_and_delay_are_what_the_example_says() -> None:
    summary = one_job_moved_by_two_hours()
    assert summary.embellie.account.peak_by_zone_kw == pytest.approx({"west": IDLE_KW + 4.4496, "east": IDLE_KW})
    assert summary.embellie.account.peak_kw == pytest.approx(2 * IDLE_KW + 4.4496)
    assert (summary.embellie.delays.mean_s, summary.fifo.delays.mean_s) == (7200.0, 0.0)


def test_a_job_that_came_late_waits_from_when_it_came_on_both_sides() -> None:
    planned = scenario(job(), job("b"))
    came = planned.as_it_came({"a": BEGIN + 3 * HOUR})
    ours = history(came, {"a": track("a", ("west-gpu-000", 5.0, 6.0))})
    truths = {"west": truth("west"), "east": truth("east")}
    summary = summarise(came, truths, ours, measured())
    assert summary.embellie.delays.mean_s == 2 * 3600
    assert summary.fifo.delays.mean_s == 0
    said = io.StringIO()
    Console(file=said, width=120).print(render_summary(summary, width=120))
    assert "3.0 h later than the trace has them" in said.getvalue()


def test_a_worse_history_is_called_worse() -> None:
    planned = scenario(job())
    ours = history(planned, {"a": track("a", ("west-gpu-000", 2.0, 3.0))})
    truths = {"west": truth("west", 400, 400, 900), "east": truth("east")}
    assert summarise(planned, truths, ours, measured()).comparison.saved_percent < 0


def test_a_gang_on_two_rows_waits_once_and_heats_both() -> None:
    planned = scenario(job(gpus=16))
    ours = history(planned, {"a": track("a", ("west-gpu-000", 1.0, 2.0), ("east-gpu-000", 1.5, 2.5))})
    assert [(run.zone, run.gpus) for run in ours.stays] == [("west-r1", 8), ("east-r1", 8)]
    assert [(run.start - run.submitted_at) for run in ours.jobs] == [1.5 * HOUR]


def test_a_job_that_still_runs_is_carried_on_and_one_that_never_started_is_counted() -> None:
    planned = scenario(job("a", duration=10 * HOUR), job("b"))
    tracks = {"a": track("a", ("west-gpu-000", 47.0, None)), "b": track("b")}
    ours = history(planned, tracks, stopped_h=48.0)
    assert (ours.extended, ours.cut) == (1, 1)
    assert ours.stays[0].end == BEGIN + 57 * HOUR
    assert ours.jobs[1].start == BEGIN + 48 * HOUR
    assert [(run.job, run.start, run.end) for run in ours.stays[1:]] == [("b", BEGIN + 48 * HOUR, BEGIN + 49 * HOUR)]


def test_the_hot_row_is_found_out() -> None:
    # 64 GPUs on one row of 8 nodes: 25.6 kW idle + 64 x 0.515 kW = 58.6 kW, times the row's rise, over 33 degC.
    planned = scenario(job(gpus=64, watts_per_gpu=640))
    full = track("a", *[(f"west-gpu-{k:03d}", 0.0, 1.0) for k in range(8)])
    truths = {"west": truth("west", ambient_c=33.0), "east": truth("east")}
    summary = summarise(planned, truths, history(planned, {"a": full}), measured())
    assert summary.embellie.thermal_violations == 1
    assert summary.embellie.thermal_hours == pytest.approx(1.0)


def test_first_come_first_served_starts_everything_at_once_while_there_is_room() -> None:
    planned = scenario(*(job(f"j{k:02d}", submit=BEGIN + k * HOUR, flex=flex) for k, flex in enumerate(Flex)))
    truths = {site.name: truth(site.name) for site in ZONES}
    assert [run.start - run.submitted_at for run in simulated(planned, truths).jobs] == [timedelta(0)] * 4


def test_the_file_has_the_promised_fields(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "demo.json"
    write_json(one_job_moved_by_two_hours(), path)
    found = json.loads(path.read_text(encoding="utf-8"))
    promised = {
        "jobs_submitted", "jobs_finished", "held_past_latest_start", "unlabelled_delayed", "carbon_kg", "peak_kw",
        "contracted_kw", "thermal_violations", "grid_hours_replayed", "wall_seconds", "operator_peak_rss_mib",
    }  # fmt: skip
    assert promised <= set(found)
    assert set(found["carbon_kg"]) == {"embellie", "fifo"}
    assert found["grid_hours_replayed"] == 50.0
    assert found["contracted_kw"] == sum(site.contracted_kw for site in ZONES)


def ledger_of_a_day(path: Path) -> None:
    """A day of one zone, metered at 12 kW, and one job that waited two hours."""
    drafts = []
    for k in range(24):
        start = BEGIN + k * HOUR
        at = tuple(start.timestamp() + s for s in range(0, 3601, 300))
        meter, node = (Samples(at_s=at, values=(watts,) * len(at)) for watts in (12_000.0, 10_000.0))
        kinds = (SignalKind.AVERAGE_LIFECYCLE, SignalKind.AVERAGE_DIRECT)
        known = ZoneInterval(
            zone="west", start=start, end=start + HOUR, gpus=(), gangs=(), meter=meter,
            machines=(Machine(name="n", gpus=8, idle_w=3200.0, gpu_idle_w=140.0, host_share=0.03, power=node),),
            prices=tuple(Price(kind=kind, g_per_kwh=400.0, quality="measured", source="x") for kind in kinds),
        )  # fmt: skip
        cell = {"name": "west", "nodes": 1, "gpusPerNode": 8, "nodeIdleKw": 3.2, "marginalPue": 1.2}
        drafts.append(Draft(kind=Kind.ACCOUNT, at=start + HOUR, body={**account_interval(known), "cells": [cell]}))
    ran = {
        "uid": "u", "namespace": "ml", "kind": "Job", "name": "a", "flex": "patient", "submitted": BEGIN,
        "start": BEGIN + 2 * HOUR, "end": BEGIN + 6 * HOUR, "latestStart": BEGIN + 8 * HOUR, "gpus": 8,
        "gpusPerPod": 8, "cell": "west", "addedKw": 3.6, "running": False,
    }  # fmt: skip
    with Ledger(path, leader="a", version="1") as ledger:
        ledger.append([*drafts, Draft(kind=Kind.RUN, at=BEGIN + 6 * HOUR, body=ran)])


def test_the_summary_says_what_the_operators_own_ledger_says(tmp_path: Path) -> None:
    ledger_of_a_day(tmp_path / "ledger.sqlite")
    account = read_ledger(tmp_path / "ledger.sqlite", BEGIN)
    summary = replace(one_job_moved_by_two_hours(), ledger=account)
    found = as_json(summary)
    assert found["ledger"]["sound"]
    assert found["ledger"]["facility_kwh"] == pytest.approx(24 * 12.0)
    assert found["ledger"]["carbon_kg"] == {"AverageLifecycle": 115.2, "AverageDirect": 115.2}
    assert found["ledger"]["coverage_percent"]["meter"] == pytest.approx(100)
    assert found["ledger"]["refused"] == {}
    assert found["carbon_saved"]["gpu_hours_delayed"] == pytest.approx(16)
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(render_summary(summary, width=120))
    assert "its chain is whole" in console.export_text()


def test_a_ledger_that_tells_nothing_is_said_to(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite", leader="a", version="1"):
        pass
    found = as_json(replace(one_job_moved_by_two_hours(), ledger=read_ledger(tmp_path / "ledger.sqlite", BEGIN)))
    assert "no accounts yet" in found["ledger"]["trouble"]
    assert found["carbon_saved"] is None
    assert not read_ledger(tmp_path / "none.sqlite", BEGIN).sound


def test_grids_tell_a_first_figure_at_once_and_the_one_that_stays_a_day_later(tmp_path: Path) -> None:
    write_intensity(tmp_path, [truth("west", 100, 300)], BEGIN + 2 * HOUR)
    first = read_intensity(tmp_path / "west.csv")
    write_intensity(tmp_path, [truth("west", 100, 300)], BEGIN + 26 * HOUR)
    last = read_intensity(tmp_path / "west.csv")
    second_hour = BEGIN + HOUR
    assert first.at(SignalKind.AVERAGE_LIFECYCLE, second_hour) == Known(g_per_kwh=200.0, estimated=True)
    assert last.at(SignalKind.AVERAGE_LIFECYCLE, second_hour) == Known(g_per_kwh=300.0, estimated=False)
    assert last.at(SignalKind.AVERAGE_DIRECT, second_hour) == Known(g_per_kwh=240.0, estimated=False)
    assert first.at(SignalKind.AVERAGE_LIFECYCLE, BEGIN + 2 * HOUR) is None, "an hour that is not over is not told"


def test_every_job_held_past_its_bound_is_counted_and_the_worst_is_named() -> None:
    planned = scenario(job())
    ours = history(planned, {"a": track("a", ("west-gpu-000", 2.0, 3.0))})
    late = measured(late=(("a", 240.0), ("b", 600.0)))
    summary = summarise(planned, {site.name: truth(site.name) for site in ZONES}, ours, late)
    assert as_json(summary)["held_past_latest_start"] == 2
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(render_summary(summary, width=120))
    said = " ".join(console.export_text().replace("│", " ").split())
    assert "b, by 10 minutes of replayed time, 0.7 s of this machine's" in said
    assert "make demo FACTOR=300" in said, "what a machine does that cannot keep up, and what to do"


def test_a_missing_memory_reading_is_null_and_not_zero() -> None:
    summary = one_job_moved_by_two_hours()
    planned = summary.scenario
    without = summarise(
        planned,
        {site.name: truth(site.name) for site in ZONES},
        summary.history,
        measured(operator_peak_rss_mib=None),
    )
    assert as_json(without)["operator_peak_rss_mib"] is None


@pytest.mark.parametrize("width", [80, 120])
def test_the_summary_fits_the_terminal_and_says_where_to_look_next(width: int) -> None:
    console = Console(width=width + 40, file=io.StringIO(), record=True)
    console.print(render_summary(one_job_moved_by_two_hours(), width=width))
    text = console.export_text()
    assert max(cell_len(line.rstrip()) for line in text.splitlines()) <= width
    for expected in ("emissions", "first come", "life-cycle average", "make cluster", "latest start"):
        assert expected in " ".join(text.replace("│", " ").split())
