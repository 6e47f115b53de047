# SPDX-License-Identifier: Apache-2.0
"""Everything that runs during the demo: control plane, telemetry, forecaster, operator, watchdog.

The operator and the watchdog are real processes that hold the tokens of the chart's own ServiceAccounts, so what the
chart grants them is what they have.
"""

import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from embellie.domain.clock import AcceleratedClock
from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.demo import world
from embellie_testbed.demo.grid import GridTruth, write_ambient
from embellie_testbed.demo.scenario import ROWS, ZONES
from embellie_testbed.exporter import start_exporter
from embellie_testbed.paths import CHART
from embellie_testbed.processes import ProgramError, free_port
from embellie_testbed.product import program
from embellie_testbed.prometheus import start_prometheus

LEAD_SECONDS = 14.0
"""Real seconds that the operator gets before the first job comes: its lease, its first turn, its switch."""
LEDGER_INTERVAL_S = 3600.0
"""Accounts of an hour: four real seconds, in which the exporter is scraped four times."""
FORECAST_EVERY = "3h"
"""An hour is four real seconds here: with a forecast in each, the regressions for each hour of day took half of all
processor time."""
TURN_REAL_SECONDS = 1.5
"""The longest pause between two turns; new work starts one at once."""
_STATUS = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pids:
    """Process ids of what the demo is about."""

    operator: int
    watchdog: int


def rfc3339(moment: datetime) -> str:
    """Write an instant as the `--clock` flags read it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def clock_flag(clock: AcceleratedClock) -> str:
    """Write a clock as a command line flag."""
    return f"--clock=replay:{rfc3339(clock.origin)},{rfc3339(clock.wall_origin)},{clock.factor:g}"


def clock_that_starts(begin: datetime, *, factor: float, in_seconds: float = LEAD_SECONDS) -> AcceleratedClock:
    """Return a clock that reaches `begin` in a while, so that everything is up when the first job comes."""
    wall = datetime.fromtimestamp(time.time(), UTC) + timedelta(seconds=in_seconds)
    return AcceleratedClock(origin=begin, wall_origin=wall, factor=factor)


def peak_rss_mib(pid: int) -> float | None:
    """Return the most resident memory that a process ever had [MiB]; None when it is gone."""
    try:
        found = _STATUS.search(Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    except OSError:
        return None
    return int(found.group(1)) / 1024 if found else None


def install_chart(plane: ControlPlane) -> None:
    """Install the chart as an admin does; its pods have no GPU nodes' work to do, so one replica of each is enough."""
    plane.helm(
        "install", world.RELEASE, CHART,
        "--namespace", world.RELEASE_NAMESPACE, "--create-namespace",
        "--set", "operator.replicas=1", "--set", "watchdog.replicas=1",
    )  # fmt: skip
    plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")


def apply_world(plane: ControlPlane) -> None:
    """Create zones, rows, policy and the namespace of the jobs."""
    objects = [world.namespace(), *(world.grid_zone(site, power_query=power_query(site.name)) for site in ZONES)]
    objects += [
        world.thermal_zone(row, inlet_query=inlet_query(row.name), supply_query=supply_query(row.name)) for row in ROWS
    ]
    plane.kubectl("apply", "--server-side", "-f", "-", input=world.as_list([*objects, world.energy_policy()]))
    plane.wait_for_default_service_account(world.NAMESPACE)


def inlet_query(row: str) -> str:
    """Return the PromQL of a row's hottest rack inlet [degC]."""
    return f'max(ipmi_temperature_celsius{{name="Inlet Temp",row="{row}"}})'


def supply_query(row: str) -> str:
    """Return the PromQL of what a row's cooling delivers [degC]."""
    return f'max(cooling_supply_temperature_celsius{{row="{row}"}})'


def power_query(zone: str) -> str:
    """Return the PromQL of a zone's facility power [kW]."""
    return f'facility_power_watts{{zone="{zone}"}} / 1000'


def gauge_queries() -> dict[str, str]:
    """Return what the view samples."""
    return {f"inlet/{row.name}": inlet_query(row.name) for row in ROWS} | {
        f"power/{site.name}": power_query(site.name) for site in ZONES
    }


def start_telemetry(
    plane: ControlPlane, *, clock: AcceleratedClock, truths: Mapping[str, GridTruth], operator_port: int
) -> str:
    """Start the exporter, with the rows' halls and the real weather, and Prometheus; return its address.

    Prometheus scrapes the exporter, and the operator as soon as it runs: on `operator_port`.
    """
    ambient = plane.directory / "ambient.csv"
    write_ambient(ambient, truths.values())
    rows = {row.name: dict(row.hall) for row in ROWS}
    exporter = start_exporter(plane, clock=clock_flag(clock).removeprefix("--clock="), ambient=ambient, rows=rows)
    return start_prometheus(plane, [exporter.target, f"127.0.0.1:{operator_port}"], scrape_seconds=1.0).url


def train_forecaster(begin: datetime, *, factor: float) -> None:
    """Train the forecaster on what was known when the demo begins; what is in its cache already is kept."""
    clock = clock_that_starts(begin, factor=factor, in_seconds=0.0)
    command = [program("embellie-forecast"), "train", clock_flag(clock)]
    command += [f"--region={site.region}" for site in ZONES]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise ProgramError(f"the forecaster could not be trained:\n{done.stderr[-2000:]}")


def start_product(
    plane: ControlPlane,
    *,
    clock: AcceleratedClock,
    prometheus_url: str,
    exchange: Path,
    ledger: Path,
    metrics_port: int,
) -> Pids:
    """Start forecaster, operator and watchdog."""
    shared = ["--namespace", world.RELEASE_NAMESPACE, "--name", world.RELEASE]
    operator_config = plane.kubeconfig_for(world.RELEASE_NAMESPACE, "embellie-operator")
    watchdog_config = plane.kubeconfig_for(world.RELEASE_NAMESPACE, "embellie-watchdog")
    start = plane.processes.start
    start(
        "forecaster",
        [program("embellie-forecast"), "serve", "--dir", exchange, f"--every={FORECAST_EVERY}", clock_flag(clock)],
    )
    turn_seconds = f"--turn-seconds={TURN_REAL_SECONDS * clock.factor:g}"
    operator = start(
        "operator",
        [
            program("embellie"), "operator", "run", *shared, "--kubeconfig", operator_config,
            "--identity=demo-operator", f"--prometheus-url={prometheus_url}", f"--forecast-dir={exchange}",
            f"--metrics-port={metrics_port}", turn_seconds, clock_flag(clock),
            f"--ledger-path={ledger}", f"--ledger-interval-seconds={LEDGER_INTERVAL_S:g}",
        ],
    )  # fmt: skip
    watchdog = start(
        "watchdog",
        [
            program("embellie-watchdog"), "run", *shared, "--kubeconfig", watchdog_config,
            "--identity=demo-watchdog", f"--health-port={free_port()}",
        ],
    )  # fmt: skip
    return Pids(operator=operator, watchdog=watchdog)


def wait_until_holding(plane: ControlPlane, *, exchange: Path, seconds: float) -> None:
    """Wait until both zones have a forecast and the operator has turned holding on."""

    def ready() -> bool:
        for name in ("operator", "forecaster", "watchdog"):
            if plane.processes.exit_code(name) is not None:
                raise ProgramError(f"{name} ended:\n{plane.processes.log_tail(name)}")
        forecasts = all(any((exchange / "forecasts" / site.name).glob("*.json")) for site in ZONES)
        return forecasts and _switch(plane) == "true"

    plane.processes.wait_for("operator", ready, seconds=seconds, what="forecasts are there and holding is on")


def _switch(plane: ControlPlane) -> str:
    return plane.kubectl(
        "get",
        "configmap",
        "embellie-switch",
        "-n",
        world.RELEASE_NAMESPACE,
        "-o",
        "jsonpath={.data.enabled}",
        check=False,
    )
