# SPDX-License-Identifier: Apache-2.0
"""The numbers of `embellie replay`, with their targets: published tables, the same with a capacity, a month of itp2021.

Needs EMBELLIE_DATA, the folder of replay data; without it says what is left out. `--quick` leaves out the months,
`--months` all else. `--caps` prints another table: what power caps bring beside waiting.
"""

import csv
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

DATA = Path(os.environ.get("EMBELLIE_DATA", ""))
MONTH = ("2021-04-04T00:00Z", "2021-05-02T00:00Z")
MONTH_S = (31 * 86400.0, 59 * 86400.0)
FORTNIGHT = ("2021-03-05T00:00Z", "2021-03-19T00:00Z")
FORTNIGHT_S = (1 * 86400.0, 15 * 86400.0)
ZONES = ("US-CISO", "US-PJM", "DE")


def run(*args: str) -> dict[str, Any]:
    """Return the JSON of `embellie replay`, with the wall and the processor time of the whole command."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        began, before = time.monotonic(), _children_s()
        subprocess.run(
            [sys.executable, "-m", "embellie.cli.main", "replay", *args, "--json", str(out)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        found: dict[str, Any] = json.loads(out.read_text())
        found["command_seconds"] = time.monotonic() - began
        found["cpu_seconds"] = _children_s() - before
    return found


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def show(name: str, found: dict[str, Any], target: str) -> None:
    """Print a row."""
    print(
        f"{name:<46} {found['saving_pct']:6.2f} %  wait {found['mean_wait_gaia_h']:5.2f} h  "
        f"{100 * found['share_of_bound']:5.1f} % of the bound's saving  gap {100 * found['gap']:5.1f} %  "
        f"past bound {found['past_bound']:5.0f} ({found['fifo']['past_bound']:.0f} first come first served)  "
        f"{found['command_seconds']:6.1f} s, {found['cpu_seconds']:.1f} s of CPU  target {target}",
        flush=True,
    )


def gaia(policy: str, *more: str) -> dict[str, Any]:
    """Replay GAIA's figure 8."""
    return run(
        "--preset", "gaia", "--jobs", str(DATA / "jobs/gaia_pai1k.csv.gz"),
        "--carbon", str(DATA / "replay/ci_2022.csv.gz"), "--column", "AU-SA", "--start-hour", "7000", "--hours", "720",
        "--policy", policy, *more,
    )  # fmt: skip


def itp_capacity(utilisation: float, first: float = MONTH_S[0], last: float = MONTH_S[1]) -> float:
    """Return the GPUs on which the work that comes between two submit times [s] is such a utilisation of that time."""
    with gzip.open(DATA / "jobs/itp2021.csv.gz", "rt") as file:
        hours = sum(
            float(row["gpus"]) * min(float(row["duration_s"]), last - float(row["submit_time_s"])) / 3600.0
            for row in csv.DictReader(file)
            if first <= float(row["submit_time_s"]) < last
        )
    return round(hours / ((last - first) / 3600.0) / utilisation)


def published() -> None:
    """Print the rows of GAIA's figure 8, and of the same work with a capacity."""
    for policy in ("lowest-slot", "lowest-window", "carbon-time", "ecovisor-threshold", "wait-awhile"):
        show(f"GAIA figure 8, {policy}", gaia(policy), "as published")
    show("GAIA, embellie, queue means", gaia("embellie"), ">= 38 % at <= 7.8 h, >= 36 % at <= 6.6 h")
    whole = ("--interruptible", "none")
    show("GAIA, embellie, none interruptible", gaia("embellie", *whole), ">= 33 % at <= 6.6 h")
    # Lowest-Window reads the intensity to the end of a run that starts 24 h later.
    show("the same, told as much as Lowest-Window", gaia("embellie", *whole, "--horizon", "31h"), "above its 31.6 %")
    show("GAIA, embellie, lengths predicted", gaia("embellie", "--lengths", "predicted"), ">= 40 %")
    # 3,191.9 GPU-hours arrive within a week.
    for share, gpus in ((60, 32), (80, 24)):
        for policy in ("lowest-window", "carbon-time", "ecovisor-threshold", "wait-awhile", "embellie"):
            show(f"GAIA at {share} % ({gpus} GPUs), {policy}", gaia(policy, "--capacity", str(gpus)), "our own")


def caps() -> None:
    """Print what caps save with and without waiting, on a fortnight of March, with own forecasts."""
    for zone in ZONES:
        for utilisation in (0.50, 0.75):
            gpus = str(itp_capacity(utilisation, *FORTNIGHT_S))
            for percent in ("100", "80", "60"):
                for policy in ("fifo", "embellie"):
                    found = itp(zone, *FORTNIGHT, gpus, policy, "--power-cap", percent)
                    show(f"itp2021, {zone}, {100 * utilisation:.0f} %, {policy}, cap {percent} %", found, "our own")


def itp(zone: str, begin: str, end: str, gpus: str, policy: str, *more: str) -> dict[str, Any]:
    """Replay a time of itp2021 with this project's own forecasts."""
    return run(
        "--jobs", str(DATA / "jobs/itp2021.csv.gz"), "--carbon", str(DATA / f"grid/{zone}.csv.gz"),
        "--column", "ci_lifecycle_g_per_kwh", "--from", begin, "--until", end, "--slack", "24h",
        "--policy", policy, "--capacity", gpus, "--forecast", "model", *more,
    )  # fmt: skip


def main() -> None:
    """Print the table."""
    if not DATA.name:
        print("left out: all rows of the replays; they need EMBELLIE_DATA, the folder of replay data")
        return
    if "--caps" in sys.argv:
        caps()
        return
    if "--months" not in sys.argv:
        published()
    if "--quick" in sys.argv:
        print("left out: the months of itp2021 (--quick)")
        return
    for zone in ZONES:
        for utilisation in (0.50, 0.75):
            found = itp(zone, *MONTH, str(itp_capacity(utilisation)), "embellie")
            show(f"itp2021, {zone}, {100 * utilisation:.0f} %, own forecasts", found, ">= 80 % of the bound's, < 60 s")


if __name__ == "__main__":
    main()
