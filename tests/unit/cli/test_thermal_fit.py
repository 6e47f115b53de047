# SPDX-License-Identifier: Apache-2.0
"""`embellie thermal fit` knows a file by its columns, says how good a fit is, and says what is wrong with a file."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy.signal import lfilter

from embellie.cli.main import cli

FIELDS = {
    "schema", "rows_fit", "rows_test", "node_power_rmse_w", "die_step_s", "die_q999_c", "gpu_power_rmse_w", "coverage",
    "margin_c", "parameters",
}  # fmt: skip


def samples(path: Path, *, runs: int = 6, node: bool = False, seed: int = 0) -> Path:
    """Write runs of a made-up two-GPU machine; the file is as the real ones are."""
    random = np.random.default_rng(seed)
    parts = []
    for run in range(runs):
        t = np.cumsum(random.uniform(1.0, 2.0, 160))
        cap = (200, 400, 600)[run % 3]
        power = np.where((t > 15) & (t < 200), cap, 70.0) + random.normal(0, 2, t.size)
        rows = {
            "run_id": f"run{run}",
            "fan_mode": "default",
            "workload": ("fp32", "fp64")[run % 2],
            "cap_w": cap,
            "t_s": t,
        }
        for gpu in (0, 1):
            rows[f"gpu{gpu}_power_w"] = power
            rows[f"gpu{gpu}_temp_c"] = np.round(30 + 2 * gpu + 0.035 * power + random.normal(0, 0.2, t.size))
        if node:
            rows["dcmi_power_w"] = 500 + 1.03 * 2 * power + random.normal(0, 10, t.size)
        parts.append(pd.DataFrame(rows))
    pd.concat(parts).to_csv(path, index=False)
    return path


def hourly(path: Path, *, hours: int = 900, every: str = "h", memory: float = 0.0) -> Path:
    random = np.random.default_rng(1)
    busy = np.clip(random.normal(50, 40, hours), 0, 100)
    power = 30 + 2.5 * busy + random.normal(0, 5, hours)
    pd.DataFrame(
        {
            "ts": pd.date_range("2024-01-01", periods=hours, freq=every).strftime("%Y-%m-%d %H:%M"),
            "power_avg_w": power,
            "temp_avg_c": 28 + 0.13 * power + lfilter([1.0], [1.0, -memory], random.normal(0, 0.5, hours)),
            "util_avg_pct": busy,
        }
    ).to_csv(path, index=False)
    return path


def fit(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["thermal", "fit", *map(str, arguments)])
    return result.exit_code, result.output


def figures(tmp_path: Path, *arguments: object) -> dict:
    code, output = fit(*arguments, "--json", tmp_path / "out.json")
    assert code == 0, output
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert set(found) == FIELDS
    return found


def test_gpu_samples_are_fitted_and_each_run_is_predicted_by_the_others(tmp_path):
    found = figures(tmp_path, samples(tmp_path / "gpu.csv.gz"))
    assert found["schema"] == "gpu-samples"
    assert found["die_step_s"] == 15.0
    assert found["die_q999_c"] < 2.0
    assert found["node_power_rmse_w"] is None
    assert found["rows_fit"] == found["rows_test"] == 960
    assert found["coverage"].keys() == found["margin_c"].keys() == {"0.05", "0.01"}


def test_node_samples_also_give_the_law_of_the_node(tmp_path):
    fitted = samples(tmp_path / "a.csv", node=True)
    found = figures(tmp_path, fitted, "--test", samples(tmp_path / "b.csv", node=True, seed=9))
    assert found["schema"] == "node-samples"
    assert found["node_power_rmse_w"] < 15.0
    assert found["parameters"]["node_power"]["gpu_share"] == pytest.approx(1.03, abs=0.02)


def test_every_file_after_the_word_test_is_predicted(tmp_path):
    one, two, three = (samples(tmp_path / f"{n}.csv", runs=n) for n in (3, 4, 6))
    assert figures(tmp_path, one, "--test", two, three)["rows_test"] == 10 * 160
    assert figures(tmp_path, one, f"--test={two}", three)["rows_test"] == 10 * 160
    assert figures(tmp_path, one, "--test", two, "--margin-floor", "1", "--test", three)["rows_test"] == 10 * 160
    # No file to fit came before: the next one is.
    assert figures(tmp_path, "--test", two, one)["rows_fit"] == 3 * 160


def test_a_machine_without_fan_speeds_or_utilisation_is_fitted_without_them(tmp_path):
    path = samples(tmp_path / "node.csv", node=True)
    rows = pd.read_csv(path)
    plain = figures(tmp_path, path)
    blank, some, full = (tmp_path / f"{name}.csv" for name in ("blank", "some", "full"))
    fans = np.where(rows["run_id"] < "run3", 8000.0, 12000.0)
    rows.assign(fan_sys_avg_rpm="", gpu0_util_pct="").to_csv(blank, index=False)
    assert figures(tmp_path, blank) == plain
    # A law with fans says nothing of runs without.
    rows.assign(fan_sys_avg_rpm=fans, dcmi_power_w=rows["dcmi_power_w"] + fans / 10.0).to_csv(full, index=False)
    assert figures(tmp_path, full)["node_power_rmse_w"] < 15.0
    assert figures(tmp_path, full, "--test", path)["parameters"]["node_power"]["fan_w"] == 0.0
    # Rows that miss theirs are predicted in temperature only.
    rows.assign(fan_sys_avg_rpm=np.where(np.arange(len(rows)) % 3, fans, np.nan)).to_csv(some, index=False)
    assert figures(tmp_path, some)["node_power_rmse_w"] < 15.0


def test_a_node_without_fan_speeds_says_what_that_costs_and_files_are_named_that_count_as_one_machine(tmp_path):
    one, two = (samples(tmp_path / f"{name}.csv", node=True, runs=3) for name in ("one", "two"))
    rows = pd.read_csv(one)
    full = tmp_path / "full.csv"
    known = {"fan_sys_avg_rpm": 8000.0, "gpu0_util_pct": 50.0}
    rows.assign(**known).to_csv(full, index=False)
    assert "node power is fitted without gpuN_util_pct: " in fit(one)[1]
    lacks, taken = "node power is fitted without fan_sys_avg_rpm: where", "one.csv, two.csv are taken to be of one"
    for arguments, says in (([one], lacks), ([full, "--test", two], lacks), ([one, two], taken)):
        assert says in fit(*arguments)[1]
    assert "fitted without" not in fit(full)[1]
    assert "taken to be of one" not in fit(one, "--test", two)[1], "what is predicted may be another's"


def test_hours_may_be_written_with_their_offset(tmp_path):
    local = hourly(tmp_path / "server.csv", hours=1900)
    found = figures(tmp_path, local)
    rows = pd.read_csv(local)
    times = pd.to_datetime(rows["ts"]).dt.tz_localize("UTC").dt.tz_convert("America/New_York")
    rows.assign(ts=times.map(str)).to_csv(local, index=False)
    assert figures(tmp_path, local) == found


def test_files_that_are_fitted_and_predicted_are_said(tmp_path):
    path = samples(tmp_path / "a.csv")
    assert figures(tmp_path, path, "--test", path)["parameters"]["validation"] == "test runs, 6 of 6 fitted too"


def test_runs_are_held_out_by_name_or_label(tmp_path):
    path = samples(tmp_path / "gpu.csv")
    assert figures(tmp_path, path, "--test-runs", "*/fp64/*")["rows_test"] == 480
    assert figures(tmp_path, path, "--test-runs", "run0")["rows_test"] == 160
    code, output = fit(path, "--test-runs", "nothing*")
    assert code == 1
    assert "matches no run" in output
    assert "holds all of them out" in fit(path, "--test-runs", "*")[1]


def test_hourly_servers_are_predicted_row_by_row_before_they_are_learnt(tmp_path):
    found = figures(tmp_path, hourly(tmp_path / "server1.csv"), "--test-runs", "*/2024-02")
    assert found["schema"] == "hourly-servers"
    assert found["die_step_s"] == 3600.0
    assert found["gpu_power_rmse_w"] < 12.0
    assert found["parameters"]["servers"]["server1"]["r_mk_per_w"] == pytest.approx(130, abs=30)


def test_servers_that_are_told_by_the_quarter_of_an_hour_are_predicted_from_the_row_before_too(tmp_path):
    path = hourly(tmp_path / "server1.csv", every="15min", memory=0.9)
    found = figures(tmp_path, path)
    assert found["die_step_s"] == 900.0
    assert found["parameters"]["servers"]["server1"]["memory"] == pytest.approx(0.9, abs=0.1)
    assert "one each 15 min" in fit(path)[1]


def test_predicted_against_measured_is_drawn(tmp_path):
    code, output = fit(samples(tmp_path / "gpu.csv"), "--plot", tmp_path / "fit.png")
    assert code == 0
    assert "predicted (up) against measured (right)" in output
    assert (tmp_path / "fit.png").read_bytes().startswith(b"\x89PNG")


def test_what_was_learnt_is_said_in_words_with_units(tmp_path):
    _, dies = fit(samples(tmp_path / "gpu.csv"))
    head = next(line for line in dies.splitlines() if "without power °C" in line)
    assert "at once mK/W" in head
    _, hours = fit(hourly(tmp_path / "server1.csv"))
    power, row = (line.split() for line in hours.splitlines() if "% busy W" in line or line.startswith("  server1 "))
    assert power[:3] == ["0", "%", "busy"]
    watts = [float(cell) for cell in row[1:6]]
    assert watts == sorted(watts), "the busier, the more it draws"
    assert "a margin for 95 % of the rows" in hours


def test_rows_that_no_machine_shows_are_left_out_and_counted(tmp_path):
    path = samples(tmp_path / "gpu.csv")
    table = pd.read_csv(path)
    table.loc[3, "gpu0_temp_c"] = 4000.0
    table.loc[4, "gpu1_power_w"] = np.nan
    table.to_csv(path, index=False)
    code, output = fit(path)
    assert code == 0
    assert "2 rows left out" in output


def scaled(table: pd.DataFrame, what: str, by: float, plus: float = 0.0) -> pd.DataFrame:
    """Return a table whose columns of one kind are in another unit."""
    return table.assign(**{c: table[c] * by + plus for c in table.columns if c.endswith(what)})


@pytest.mark.parametrize(
    ("what", "by", "plus", "says"),
    [
        ("power_w", 0.001, 0.0, "column gpu0_power_w is never above 0.6 W: it seems to be in kilowatts"),
        ("power_w", 1000.0, 0.0, "column gpu0_power_w lie outside 0 to 5000"),
        ("temp_c", 10.0, 0.0, "column gpu0_temp_c lie outside -20 to 130"),
        ("temp_c", 1.0, 273.0, "column gpu0_temp_c lie outside -20 to 130"),
        ("dcmi_power_w", 0.01, 0.0, "less than the GPUs of its machine"),
        ("t_s", 1000.0, 0.0, "t_s is in seconds"),
    ],
)
def test_a_column_in_another_unit_than_its_name_says_is_named(tmp_path, what, by, plus, says):
    path = samples(tmp_path / "node.csv", node=True)
    scaled(pd.read_csv(path), what, by, plus).to_csv(path, index=False)
    code, output = fit(path)
    assert code == 1
    assert says in output


def test_hourly_kilowatts_are_named(tmp_path):
    path = hourly(tmp_path / "server.csv")
    scaled(pd.read_csv(path), "power_avg_w", 0.001).to_csv(path, index=False)
    code, output = fit(path)
    assert code == 1
    assert "power_avg_w is never above 0.3 W: it seems to be in kilowatts" in output


def test_a_utilisation_that_is_told_as_a_fraction_is_named_and_an_idle_server_is_none(tmp_path):
    path = hourly(tmp_path / "server.csv")
    rows = pd.read_csv(path)
    rows.assign(util_avg_pct=rows["util_avg_pct"] / 100.0).to_csv(path, index=False)
    code, output = fit(path)
    assert code == 1
    assert "util_avg_pct is never above 1 %" in output
    idle = rows.assign(util_avg_pct=rows["util_avg_pct"] / 100.0, power_avg_w=30.0 + rows["power_avg_w"] / 100.0)
    idle.to_csv(path, index=False)
    assert fit(path)[0] == 0


def test_runs_of_one_name_in_one_file_are_runs_of_their_own_and_shuffled_rows_are_put_in_order(tmp_path):
    path = samples(tmp_path / "gpu.csv")
    rows = pd.read_csv(path)
    apart = figures(tmp_path, path)
    rows.assign(run_id="run").to_csv(path, index=False)
    glued = figures(tmp_path, path)
    assert glued["rows_fit"] == apart["rows_fit"] == len(rows)
    assert glued["parameters"] == apart["parameters"]
    rows.sample(frac=1.0, random_state=1).sort_values("run_id", kind="stable").to_csv(path, index=False)
    assert figures(tmp_path, path) == apart


def test_a_temperature_that_never_moves_is_named(tmp_path):
    path = samples(tmp_path / "gpu.csv")
    assert "never moves" not in fit(path)[1]
    pd.read_csv(path).assign(gpu1_temp_c=45.0).to_csv(path, index=False)
    assert "the temperature of default/gpu1 never moves: its sensor is stuck" in fit(path)[1]


def test_fans_that_are_said_to_turn_backwards_are_not_known(tmp_path, recwarn):
    path = samples(tmp_path / "node.csv", node=True)
    pd.read_csv(path).assign(fan_sys_avg_rpm=-5000.0).to_csv(path, index=False)
    assert figures(tmp_path, path)["parameters"]["node_power_without"] == ["fan_sys_avg_rpm", "gpuN_util_pct"]
    assert not recwarn.list


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ("a,b\n1,2\n", "columns are those of no known file"),
        ("run_id,t_s,gpu0_power_w\nr,0,100\n", "gpu0_temp_c are missing"),
        ("ts,power_avg_w\n2024-01-01 00:00,100\n", "temp_avg_c, util_avg_pct are missing"),
        ("run_id,t_s,gpu0_power_w,gpu0_temp_c\n", "no rows below the header"),
        ("run_id,t_s,gpu0_power_w,gpu0_temp_c\nr,0,warm,30\n", "gpu0_power_w holds no numbers"),
        ("run_id,t_s,gpu0_power_w,gpu0_temp_c\nr,0,100,30\n", "no run lasts three steps"),
        (
            "run_id,t_s,gpu0_power_w,gpu0_temp_c\n" + "".join(f"r,{60 * k},100,{30 + k % 3}\n" for k in range(99)),
            "a gap of more than 30 s",
        ),
        ("run_id,t_s,gpu0_power_w,gpu0_temp_c\n,0,100,30\n", "no row has a run_id"),
        ("ts,power_avg_w,temp_avg_c,util_avg_pct\nyesterday,1,2,3\n", "column ts holds no times"),
        ("ts,power_avg_w,temp_avg_c,util_avg_pct\n1705744800,1,2,3\n", "column ts holds no times"),
        ("ts,power_avg_w,temp_avg_c,util_avg_pct\n03/02/2024 10:00,1,2,3\n", "column ts holds no times"),
        ("\x00\x01", "columns are those of no known file"),
        ("", "is empty: its first line must name the columns"),
        ("run_id,t_s,gpu0_power_w,gpu0_temp_c\nr,0,100,30\nr,1,100,30,9\n", "line 3 has 5 fields, and 4 are named"),
        ("run_id,t_s,gpu0_power_w,gpu0_temp_c\nr,0,100,30,9\n", "no row may have more fields"),
        ('run_id,t_s,gpu0_power_w,gpu0_temp_c\nr,0,"100,30\n', "a quote is opened in line 2 and not closed"),
        ("run_id,t_s,gpu0_power_w,gpu0_temp_c,gpu0_temp_c\nr,0,1,3,4\n", "there are two columns gpu0_temp_c"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_what_is_wrong(tmp_path, columns, says):
    path = tmp_path / "bad.csv"
    path.write_text(columns, encoding="utf-8")
    code, output = fit(path)
    assert code == 1
    assert says in output


def test_a_table_from_a_spreadsheet_with_other_names_or_commas_at_the_end_is_read_as_it_is(tmp_path):
    path = samples(tmp_path / "gpu.csv")
    text, table = path.read_text(), pd.read_csv(path)
    wanted = figures(tmp_path, path)
    header, *rows = text.splitlines()
    for other in (
        table.to_csv(index=False, sep=";", decimal=","),
        table.to_csv(index=False, sep="\t"),
        "\n".join([header.upper().replace(",", " , "), *rows]),
        "\n".join([header, *(f"{row}," for row in rows)]),
        "\ufeff" + text.replace("\n", "\r\n"),
    ):
        path.write_bytes(other.encode())
        assert figures(tmp_path, path) == wanted
    path.write_bytes(text.encode("utf-16"))
    assert "is text in UTF-16: save it as CSV in UTF-8" in fit(path)[1]


def test_a_packed_file_that_was_damaged_is_named(tmp_path):
    path = samples(tmp_path / "gpu.csv.gz")
    packed = path.read_bytes()
    path.write_bytes(packed[:200] + bytes(8) + packed[208:])
    code, output = fit(path)
    assert code == 1
    assert "gpu.csv.gz: cannot be read as CSV" in output


def test_kinds_that_do_not_go_together_are_refused(tmp_path):
    code, output = fit(samples(tmp_path / "gpu.csv"), hourly(tmp_path / "server.csv"))
    assert code == 1
    assert "cannot be fitted together" in output


def test_either_files_or_a_zone_must_be_given(tmp_path):
    assert fit()[0] == 2
    code, output = fit("--zone", "row")
    assert code == 1
    assert "--prometheus-url" in output
    code, output = fit("--zone", "row", "--prometheus-url", "http://127.0.0.1:1", "--kubeconfig", "/nowhere/at-all")
    assert code == 1
    assert "no access to a cluster" in output


def test_one_run_alone_is_no_test_and_a_power_that_stands_still_teaches_no_warming(tmp_path):
    path = samples(tmp_path / "all.csv")
    rows = pd.read_csv(path)
    one = rows[rows["run_id"] == "run0"]
    moving, still = tmp_path / "moving.csv", tmp_path / "still.csv"
    one.to_csv(moving, index=False)
    one.assign(gpu0_power_w=198.0 + one["gpu0_power_w"] % 1, gpu1_power_w=198.0).to_csv(still, index=False)
    off = tmp_path / "off.csv"
    one.assign(gpu0_power_w=0.0, gpu1_power_w=0.0).to_csv(off, index=False)
    both = ["default/gpu0", "default/gpu1"]
    for file, marked in ((moving, None), (still, both), (off, both)):
        parameters = figures(tmp_path, file)["parameters"]
        assert parameters["validation"] == "one run that predicts itself, which tests nothing"
        assert parameters.get("power_hardly_moved") == marked
        assert all(-20.0 <= die["t0_c"] <= 60.0 for die in parameters["die"].values())
    assert "hardly moved, so what a watt warms is not known: fit runs at several powers" in fit(still)[1]
    assert "hardly moved" not in fit(path)[1]
