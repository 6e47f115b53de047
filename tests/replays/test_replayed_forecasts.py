# SPDX-License-Identifier: Apache-2.0
"""What `embellie replay --forecast model` tells a policy: the product's own forecasts, of the column that was asked."""

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from embellie.cli.grid_history import read_grid
from embellie.cli.replay import replay as command
from embellie.cli.replay_inputs import Options, gather, outlook_for
from embellie.domain.forecast import FloatArray
from embellie.simulation.whatif.jobs_file import parse_jobs

START = datetime(2022, 3, 1, tzinfo=UTC)
DAYS = 40
SUBMIT = 24 * 36 + 6
"""The hour of the file at which the only job is submitted, and forecasts begin."""
HOUR = np.arange(24 * DAYS)
DAILY = 300.0 + 80.0 * np.sin(2.0 * np.pi * HOUR / 24.0) + 20.0 * np.sin(HOUR / 37.0)


def told(
    folder: Path,
    columns: dict[str, FloatArray],
    *options: str,
    times: str = "timestamp_utc",
    step_h: float = 1.0,
    submit: int = SUBMIT,
) -> FloatArray:
    """Return the 24 h of a file that the policy is told at the job's submission, by slot; NaN is a hole."""
    rows_of_file = range(len(next(iter(columns.values()))))
    stamps = [f"{START + timedelta(hours=row * step_h):%Y-%m-%dT%H:%M:%SZ}" for row in rows_of_file]
    rows = [
        ",".join([stamp, *("" if np.isnan(value) else f"{value:.6f}" for value in values)])
        for stamp, *values in zip(stamps, *columns.values(), strict=True)
    ]
    carbon = folder / "zone.csv"
    carbon.write_text("\n".join([",".join([times, *columns]), *rows]) + "\n")
    line = ["--carbon", str(carbon), "--forecast", "model", "--slack", "0h", "--anchor", f"{START:%Y-%m-%dT%H:%MZ}"]
    asked = Options(**command.make_context("replay", [*line, *options], resilient_parsing=True).params)
    history = read_grid(carbon, asked.column, asked.time_column)
    text = f"job_id,submit_time_s,duration_s,gpus\na,{submit * 3600},3600,1\n"
    trace = parse_jobs(io.StringIO(text), "trace.csv")
    setup = gather(asked, trace, history, seed=0)
    slot_h = setup.case.axis.slot_h
    return outlook_for(asked, setup, carbon, history, 0).ahead(round(submit / slot_h), round(24 / slot_h))


@pytest.mark.parametrize(
    ("column", "times"), [("ci_lifecycle_g_per_kwh", "timestamp_utc"), ("FR", "utc")], ids=["own schema", "foreign"]
)
def test_a_forecast_issued_within_a_hole_does_not_know_what_came_after_it(
    tmp_path: Path, column: str, times: str
) -> None:
    # Bridged, the hole would lean towards its far end.
    hole = (HOUR >= SUBMIT - 6) & (HOUR < SUBMIT + 6)
    one, two = (
        told(tmp_path, {column: np.where(hole, np.nan, np.where(HOUR < SUBMIT, DAILY, later))}, "--column", column,
             times=times)
        for later in (DAILY, 40.0 + 0.1 * DAILY)
    )  # fmt: skip
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - DAILY[SUBMIT : SUBMIT + 24]).mean() < 30.0


@pytest.mark.parametrize(
    ("direct", "lifecycle", "times"),
    [("ci_direct_g_per_kwh", "ci_lifecycle_g_per_kwh", "timestamp_utc"), ("FR direct", "FR lifecycle", "utc")],
    ids=["own schema", "foreign"],
)
def test_a_direct_column_is_forecast_from_its_own_past(tmp_path: Path, direct: str, lifecycle: str, times: str) -> None:
    columns = {lifecycle: DAILY + 400.0, direct: DAILY - 150.0}
    for asked, truth in columns.items():
        found = told(tmp_path, columns, "--column", asked, times=times)
        assert np.abs(found - truth[SUBMIT : SUBMIT + 24]).mean() < 20.0


def test_steps_longer_than_an_hour_are_told_the_mean_of_their_hours_and_shorter_ones_their_hour(tmp_path: Path) -> None:
    columns = {"ci_lifecycle_g_per_kwh": DAILY}
    hourly = told(tmp_path, columns)
    np.testing.assert_allclose(told(tmp_path, columns, "--step", "3h"), hourly.reshape(8, 3).mean(axis=1))
    np.testing.assert_allclose(told(tmp_path, columns, "--step", "15min"), np.repeat(hourly, 4))


def test_steps_that_no_hourly_forecast_fits_are_refused(tmp_path: Path) -> None:
    halves = {"ci_lifecycle_g_per_kwh": np.repeat(DAILY, 2)}
    for step in ("90min", "5h"):
        with pytest.raises(ValueError, match="--forecast model needs a --step that divides an hour, or whole hours"):
            told(tmp_path, halves, "--step", step, step_h=0.5)


def random_days(seed: int) -> FloatArray:
    """A quantity by hour, between -1 and 1, of which one day says nothing about the next."""
    return np.repeat(np.random.default_rng(seed).uniform(-1.0, 1.0, 4 * DAYS), 6)


@pytest.mark.parametrize(
    ("telling", "moved_h"),
    [({"wxfc_wind_speed_ms": 8.0}, 0), ({"gen_wind_mw": 4000.0, "gen_natgas_mw": 9000.0}, 24)],
    ids=["the weather of the day", "generation of the day before"],
)
def test_what_a_file_in_our_schema_knows_beside_the_intensity_is_told_too(
    tmp_path: Path, telling: dict[str, float], moved_h: int
) -> None:
    wind = random_days(seed=3)
    beside = {name: level * (1.0 + 0.6 * wind * (-1 if "natgas" in name else 1)) for name, level in telling.items()}
    intensity = {"ci_lifecycle_g_per_kwh": 300.0 * np.exp(-0.5 * np.roll(wind, moved_h))}
    truth = intensity["ci_lifecycle_g_per_kwh"][SUBMIT : SUBMIT + 24]
    with_it, without = (np.abs(told(tmp_path, columns) - truth).mean() for columns in (intensity | beside, intensity))
    assert with_it < 0.8 * without, (with_it, without)


@pytest.mark.parametrize(("submit", "known"), [(0, []), (5, [300.0, 320.7, 340.0, 356.5])])
def test_before_a_day_is_known_its_other_hours_are_told_as_alike(
    tmp_path: Path, submit: int, known: list[float]
) -> None:
    found = told(tmp_path, {"ci_lifecycle_g_per_kwh": DAILY}, submit=submit)
    unknown = 24 - submit
    assert np.ptp(found[:unknown]) == 0.0
    np.testing.assert_allclose(found[unknown:][: len(known)], known, atol=2.0)
    if known:
        assert min(known) < found[0] < max(found)
