# SPDX-License-Identifier: Apache-2.0
"""Runs the product's own programs against a control plane, each with the token of the chart's ServiceAccount.

KWOK runs no containers, so the programs run here as processes, with the flags that the chart gives them.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.processes import free_port
from embellie_testbed.rest import ApiError

NAMESPACE = "embellie-system"
RELEASE = "embellie"
_numbers = count(1)


def program(name: str) -> str:
    """Return the path of one of the product's commands in this environment."""
    return str(Path(sys.executable).parent / name)


@dataclass(slots=True)
class Program:
    """One running program of the product."""

    plane: ControlPlane
    name: str
    pid: int
    port: int
    argv: list[str] = field(default_factory=list)

    def stop(self, *, number: int = 15, seconds: float = 30.0) -> int:
        """Signal it, wait for its end and return its exit code."""
        return self.plane.processes.stop(self.name, number=number, seconds=seconds)

    def running(self) -> bool:
        """Tell whether it still runs."""
        return self.plane.processes.exit_code(self.name) is None

    def log(self) -> str:
        """Return what it wrote."""
        return self.plane.processes.log(self.name).read_text(encoding="utf-8", errors="replace")


def start_operator(
    plane: ControlPlane,
    forecast_dir: Path,
    *,
    flags: Sequence[str] = ("--turn-seconds=1",),
    prometheus_url: str = "",
    port: int | None = None,
) -> Program:
    """Start one operator replica; `port` is where it answers, a free one unless it must be known before."""
    name = f"operator-{next(_numbers)}"
    port = port or free_port()
    argv = [
        program("embellie"), "operator", "run",
        f"--namespace={NAMESPACE}", f"--name={RELEASE}", f"--identity={name}",
        f"--kubeconfig={plane.kubeconfig_for(NAMESPACE, f'{RELEASE}-operator')}",
        f"--forecast-dir={forecast_dir}", f"--metrics-port={port}", f"--prometheus-url={prometheus_url}", *flags,
    ]  # fmt: skip
    return Program(plane, name, plane.processes.start(name, argv), port, argv)


def start_watchdog(plane: ControlPlane, *, flags: Sequence[str] = ()) -> Program:
    """Start one watchdog replica."""
    name = f"watchdog-{next(_numbers)}"
    port = free_port()
    argv = [
        program("embellie-watchdog"), "run", f"--namespace={NAMESPACE}", f"--name={RELEASE}", f"--identity={name}",
        f"--kubeconfig={plane.kubeconfig_for(NAMESPACE, f'{RELEASE}-watchdog')}", f"--health-port={port}", *flags,
    ]  # fmt: skip
    return Program(plane, name, plane.processes.start(name, argv), port, argv)


def switch_says(plane: ControlPlane) -> dict[str, str]:
    """Return the data of the switch; empty where it is missing."""
    rest = plane.rest()
    try:
        found = rest.request("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps/{RELEASE}-switch")
    except ApiError:
        return {}
    finally:
        rest.close()
    return dict(found.get("data") or {})


def write_forecast(
    directory: Path,
    zone: str,
    carbon_intensity_g_per_kwh: Sequence[float],
    *,
    now: datetime | None = None,
    step_seconds: int = 3600,
) -> Path:
    """Write a forecast file whose first slot holds `now`, as the forecaster would."""
    issued = (now or datetime.now(UTC)).replace(microsecond=0)
    start = datetime.fromtimestamp(issued.timestamp() // step_seconds * step_seconds, UTC)
    mean = list(carbon_intensity_g_per_kwh)
    document = {
        "schema": "embellie.io/forecast/v1",
        "zone": zone,
        "issuedAt": issued.isoformat(),
        "start": start.isoformat(),
        "stepSeconds": step_seconds,
        "signalKind": "AverageLifecycle",
        "rung": "Live",
        "modelId": "written-by-a-test",
        "skillPercent": None,
        "quantileLevels": [0.1, 0.5, 0.9],
        "carbonIntensityGramsPerKilowattHour": [[0.9 * v for v in mean], mean, [1.1 * v for v in mean]],
        "carbonIntensityMeanGramsPerKilowattHour": mean,
        "renewableShare": [[0.3] * len(mean)] * 3,
        "ambientTemperatureCelsius": None,
    }
    folder = directory / "forecasts" / zone
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{issued:%Y%m%dT%H%M%SZ}.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(document), encoding="utf-8")
    temporary.replace(path)
    return path


def dirty_now_clean_later(hours: int = 48, *, clean_from_hour: int = 6) -> list[float]:
    """Return a forecast in which everything that may wait until `clean_from_hour` should [g/kWh]."""
    return [500.0 if hour < clean_from_hour else 100.0 for hour in range(hours)]


def in_hours(hours: float) -> str:
    """Return the instant so many hours from now, as the annotations take it."""
    return (datetime.now(UTC) + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
