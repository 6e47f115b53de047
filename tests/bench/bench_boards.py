# SPDX-License-Identifier: Apache-2.0
"""How long each board's queries take together on 30 days of history, with 200 namespaces and 1,000 GPUs.

promtool makes the history from OpenMetrics, at the intervals at which it is scraped (30 s) and recorded (1 and 4 min).
A real Prometheus then answers every query of every panel, event and variable as Grafana would send it over 30 days;
a panel that repeats is asked once for each zone. Series that only instant queries read have the last hour only.

    python tests/bench/bench_boards.py            [--days 30] [--keep FOLDER]
"""

import argparse
import itertools
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
import requests
import yaml

from embellie.domain.reasons import Reason, Rung, State
from embellie.telemetry.metrics import Kind, catalogue, work
from embellie_boards.__main__ import BOARDS
from embellie_boards.queries import BoardQuery, board_queries, expanded, step_s
from embellie_testbed.build import binaries
from embellie_testbed.paths import CHART
from embellie_testbed.processes import free_port, until

NAMESPACES, GPUS, GRID_ZONES, THERMAL_ZONES = 200, 1000, 4, 16
TARGET_S = 3.0
SCRAPE_S, ZONE_S, ACCOUNT_S = 30, 60, 240
HOUR = 3600
DAY = 86_400
PART_S = 162 * HOUR
RULES = CHART / "files" / "rules"

GRID = [f"zone-{n}" for n in range(GRID_ZONES)]
THERMAL = [f"row-{n}" for n in range(THERMAL_ZONES)]
SPACES = [f"team-{n:03}" for n in range(NAMESPACES)]
PARTS = ("workloads", "idle", "overhead", "unexplained")
BUCKETS = ("0.01", "0.03", "0.1", "0.3", "1.0", "2.0", "5.0", "10.0", "30.0", "60.0", "+Inf")
VALUES: dict[str, Sequence[str]] = {
    "zone": GRID,
    "workload_namespace": SPACES,
    "signal_kind": ("AverageLifecycle", "AverageDirect"),
    "lead_hours": ("0", "1", "3", "6", "12", "24", "48", "72"),
    "level": ("0.1", "0.5", "0.9"),
    "rung": (*Rung, "None"),
    "lead_day": ("1", "2", "3", "4"),
    "target": ("lifecycle", "direct", "renewable_share"),
    "feed": ("entsoe", "weather"),
    "source": ("measured", "reckoned"),
    "part": PARTS,
    "window": ("1d", "7d", "30d"),
    "estimate": ("low", "expected", "high"),
    "cause": ("Choice", "Limit"),
    "result": ("Conflict", "Denied", "Unreachable"),
    "outcome": ("complete", "api_error", "error"),
    "kind": ("grid_zone_nodes", "thermal_zone_nodes", "leaking_cells", "overruled_policies"),
    "zone_kind": ("ThermalZone",),
    "sensor": ("inlet", "supply"),
    "version": ("0.1.0",),
    "python": ("3.13.0",),
    "state": ("Held", "HeldByLimit"),
    "reason": tuple(Reason)[:9],
}
THERMAL_ONLY = re.compile(r"embellie_thermal_|embellie_sensor_")
FOREIGN = {"DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_DEV_POWER_USAGE"}
LEADS = {"embellie_ambient_forecast_celsius": ("0", "24")}
"""Lead times that are read over time; the others would only make the history long to write."""
RECORDED: dict[str, tuple[int, dict[str, Sequence[str]]]] = {
    "namespace:embellie_energy_joules_total:sum": (ACCOUNT_S, {"workload_namespace": SPACES}),
    "namespace_signal_kind:embellie_emissions_grams_total:sum": (
        ACCOUNT_S,
        {"workload_namespace": SPACES, "signal_kind": VALUES["signal_kind"]},
    ),
    "namespace:embellie_gpu_seconds_total:sum": (ACCOUNT_S, {"workload_namespace": SPACES}),
    "namespace:embellie_held_gpus:sum": (ACCOUNT_S, {"workload_namespace": SPACES}),
    "zone_part:embellie_energy_joules_total:sum": (ACCOUNT_S, {"zone": GRID, "part": PARTS}),
    "zone_signal_kind:embellie_emissions_grams_total:sum": (
        ACCOUNT_S,
        {"zone": GRID, "signal_kind": VALUES["signal_kind"]},
    ),
    "zone:embellie_embodied_emissions_grams_total:sum": (ACCOUNT_S, {"zone": GRID}),
    "cause:embellie_lost_gpu_seconds_total:sum": (ACCOUNT_S, {"cause": VALUES["cause"]}),
    "state_reason:embellie_decisions_total:sum": (ACCOUNT_S, {"state": tuple(State), "reason": tuple(Reason)[:10]}),
    "part_le:embellie_turn_seconds_bucket:rate5m": (ACCOUNT_S, {"part": ("whole", "plan", "release"), "le": BUCKETS}),
    "zone:embellie_forecast_rung:level": (ZONE_S, {"zone": GRID}),
    "zone:embellie_thermal_state:level": (ZONE_S, {"zone": THERMAL}),
    "zone:embellie_contract_used:ratio": (ZONE_S, {"zone": GRID}),
    "zone:embellie_thermal_inlet_celsius:max": (ZONE_S, {"zone": THERMAL}),
    "zone:embellie_thermal_supply_celsius:max": (ZONE_S, {"zone": THERMAL}),
    "zone:embellie_thermal_worst_case_watts:max": (ZONE_S, {"zone": THERMAL}),
    "zone:embellie_thermal_limit_watts:min": (ZONE_S, {"zone": THERMAL}),
    "zone:embellie_thermal_headroom_watts:min": (ZONE_S, {"zone": THERMAL}),
    "zone_sensor:embellie_sensor_trusted:min": (ZONE_S, {"zone": THERMAL, "sensor": VALUES["sensor"]}),
    "zone:embellie_thermal_ladder_level:max": (ACCOUNT_S, {"zone": THERMAL}),
    "zone:embellie_thermal_model_trusted:min": (ACCOUNT_S, {"zone": THERMAL}),
    "zone:embellie_thermal_pue_ratio:max": (ACCOUNT_S, {"zone": THERMAL}),
    "zone_lead_hours:embellie_thermal_removable_watts:min": (
        ACCOUNT_S,
        {"zone": THERMAL, "lead_hours": ("0", "6", "24")},
    ),
    "cluster:gpu_temperature_celsius:max": (ZONE_S, {}),
    "cluster:gpu_temperature_celsius:p90": (ZONE_S, {}),
    "cluster:gpu_temperature_celsius:p50": (ZONE_S, {}),
    "cluster:gpu_power_watts:sum": (ZONE_S, {}),
    "cluster:gpus_measured:count": (ZONE_S, {}),
}


@dataclass(frozen=True, kw_only=True)
class Family:
    """One metric's series, how often they are sampled, and since when."""

    name: str
    labels: Mapping[str, Sequence[str]]
    every_s: int
    since_s: int
    counts: bool

    def series(self) -> Iterator[str]:
        for combination in itertools.product(*self.labels.values()):
            pairs = ",".join(f'{key}="{value}"' for key, value in zip(self.labels, combination, strict=True))
            yield f"{self.name}{{{pairs}}}" if pairs else self.name


def rules() -> list[dict[str, str]]:
    return [
        rule
        for path in sorted(RULES.glob("*.yaml"))
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]


def read_over_time(queries: Sequence[BoardQuery]) -> set[str]:
    """Names of raw metrics that a query reads over a range of time."""
    found = set()
    for query in queries:
        if not query.instant or "[" in query.expr:
            found |= set(re.findall(r"(?<![:\w])(?:embellie|process)_\w+", re.sub(r"\w+:\w+:\w+", "", query.expr)))
    return found


def families(queries: Sequence[BoardQuery], span_s: int) -> list[Family]:
    ranged = read_over_time(queries)
    found = [
        Family(name=name, labels=labels, every_s=every, since_s=span_s, counts="_total:" in name)
        for name, (every, labels) in RECORDED.items()
    ]
    for metric in catalogue().values():
        if metric.name == work.WORKLOAD_BOUND.name or metric.kind is Kind.HISTOGRAM:
            continue
        labels = {label: VALUES[label] for label in metric.labels}
        if THERMAL_ONLY.match(metric.name):
            labels["zone"] = THERMAL
        if metric.name == "embellie_thermal_state":
            labels["state"] = ("Normal", "Limited", "OverLimit", "Unknown")
        if metric.name.startswith("embellie_sav"):
            labels["zone"] = (*GRID, "_all_")
        if metric.name == work.WAIT_USED.name:
            labels["level"] = ("0.5", "0.9", "1")
        if metric.name in LEADS:
            labels["lead_hours"] = LEADS[metric.name]
        labels["instance"] = ("operator-0", "operator-1") if not metric.labels else ("operator-0",)
        whole = metric.name in ranged
        found.append(
            Family(
                name=metric.name,
                labels=labels,
                every_s=SCRAPE_S,
                since_s=span_s if whole else HOUR,
                counts=metric.kind is Kind.COUNTER,
            )
        )
    found.append(
        Family(
            name="embellie_turn_seconds_bucket",
            labels={"part": ("whole", "plan", "release"), "le": BUCKETS, "instance": ("operator-0", "operator-1")},
            every_s=SCRAPE_S,
            since_s=HOUR,
            counts=True,
        )
    )
    pods = {"instance": ("operator-0", "operator-1")}
    found += [
        Family(name=name, labels=pods, every_s=SCRAPE_S, since_s=span_s, counts=name.endswith("_total"))
        for name in ("process_resident_memory_bytes", "process_cpu_seconds_total")
    ]
    gpus = {"gpu": [str(n % 8) for n in range(8)], "Hostname": [f"node-{n:03}" for n in range(GPUS // 8)]}
    found += [Family(name=n, labels=gpus, every_s=SCRAPE_S, since_s=HOUR, counts=False) for n in sorted(FOREIGN)]
    found.append(
        Family(
            name="ALERTS",
            labels={"alertname": ("EmbellieSensorUntrusted",), "alertstate": ("firing",), "severity": ("warning",)},
            every_s=SCRAPE_S,
            since_s=span_s,
            counts=False,
        )
    )
    return found


def write(family: Family, window: tuple[int, int], end_s: int, out: TextIO, rng: np.random.Generator) -> int:
    """Write the samples of a family that lie in a window; return how many."""
    begin = max(window[0], end_s - family.since_s)
    times = np.arange(begin // family.every_s * family.every_s, window[1], family.every_s)
    if not times.size:
        return 0
    stamps = [f" {t}\n" for t in times.tolist()]
    # OpenMetrics wants a counter's family without its suffix; recorded counters go as unknown.
    known = family.counts and family.name.endswith("_total") and ":" not in family.name
    out.write(
        f"# TYPE {family.name.removesuffix('_total') if known else family.name} {'counter' if known else 'unknown'}\n"
    )
    wave = 50 + 40 * np.sin(times / DAY * 2 * np.pi)
    written = 0
    for series in family.series():
        if family.counts:
            # Each part begins at 0, as after a restart of the operator.
            values = np.cumsum(rng.integers(0, 1000, times.size)).tolist()
        else:
            moves = rng.random() < 0.8
            values = (np.round(wave + rng.normal(0, 3, times.size), 2) if moves else np.ones(times.size)).tolist()
        prefix = series + " "
        out.writelines([prefix + str(v) + t for v, t in zip(values, stamps, strict=True)])
        written += times.size
    return written


def make_history(queries: Sequence[BoardQuery], folder: Path, end_s: int, days: int) -> None:
    """Write the history in parts, because promtool reads its whole input once for each block."""
    text = folder / "history.om"
    rng = np.random.default_rng(1)
    found = families(queries, days * DAY)
    samples = size = 0
    began = time.monotonic()
    promtool = str(binaries() / "promtool")
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=162h", "-q"]
    for start in range(end_s - days * DAY, end_s + 1, PART_S):
        window = (start, min(start + PART_S, end_s + SCRAPE_S))
        with text.open("w", encoding="utf-8") as out:
            samples += sum(write(family, window, end_s, out, rng) for family in found)
            out.write("# EOF\n")
        size += text.stat().st_size
        subprocess.run([*command, text, folder / "data"], check=True)
        text.unlink()
    took = time.monotonic() - began
    print(f"{samples:,} samples ({size / 2**20:.0f} MiB of text) made into blocks in {took:.0f} s", flush=True)


def copies(query: BoardQuery) -> int:
    """How often Grafana asks: a panel that repeats is asked for each value of its variable."""
    return GRID_ZONES if query.repeat == "zone" else 1


def variables(query: BoardQuery, copy: int) -> dict[str, str]:
    found = {"zone": ".+", "thermal_zone": ".+", "detail_zone": THERMAL[0], "signal": "AverageLifecycle"}
    if query.repeat == "zone":
        found["zone"] = GRID[copy]
    return found


def ask(
    session: requests.Session, url: str, query: BoardQuery, copy: int, end_s: int, span_s: float
) -> tuple[float, int]:
    """Return how long a query took [s], and how many series came back."""
    promql = expanded(query, span_s, variables(query, copy)).removesuffix(" > 0")
    began = time.perf_counter()
    asked: dict[str, str | float] = {"query": promql}
    if query.instant:
        answer = session.get(f"{url}/api/v1/query", params={**asked, "time": end_s}, timeout=60)
    else:
        span = {"start": end_s - span_s, "end": end_s, "step": step_s(query, span_s)}
        answer = session.get(f"{url}/api/v1/query_range", params={**asked, **span}, timeout=60)
    took = time.perf_counter() - began
    body = answer.json()
    if answer.status_code != 200:
        raise SystemExit(f"{promql}: {body}")
    return took, len(body["data"]["result"])


def measure(url: str, end_s: int, days: int) -> bool:
    """Print each board's time; return whether all are under the target."""
    session = requests.Session()
    good = True
    for path in sorted(BOARDS.glob("*.json")):
        queries = board_queries(path)
        rounds = []
        slowest: list[tuple[float, str]] = []
        for _ in range(4):
            slowest = []
            for query in queries:
                for copy in range(copies(query)):
                    took, series = ask(session, url, query, copy, end_s, days * DAY)
                    if not series:
                        raise SystemExit(f"nothing came back for {query.panel}: {query.expr}")
                    slowest.append((took, query.panel))
            rounds.append(sum(t for t, _ in slowest))
        first, median = rounds[0], statistics.median(rounds[1:])
        good &= max(first, median) < TARGET_S
        asked = sum(copies(q) for q in queries)
        print(
            f"board {path.stem}: {asked} queries, first {first:.2f} s, then {median:.2f} s "
            f"(target {TARGET_S:g} s: {'met' if max(first, median) < TARGET_S else 'missed'})"
        )
        for took, panel in sorted(slowest, reverse=True)[:3]:
            print(f"    {1000 * took:.0f} ms  {panel}")
    return good


def measure_rules(url: str, end_s: int) -> None:
    session = requests.Session()
    for kind in ("record", "alert"):
        times = []
        for rule in (r for r in rules() if kind in r):
            began = time.perf_counter()
            asked: dict[str, str | int] = {"query": rule["expr"], "time": end_s}
            answer = session.get(f"{url}/api/v1/query", params=asked, timeout=60)
            times.append(time.perf_counter() - began)
            if answer.status_code != 200 or (kind == "record" and not answer.json()["data"]["result"]):
                raise SystemExit(f"{rule}: {answer.text[:300]}")
        print(f"{len(times)} rules ({kind}): {1000 * sum(times):.0f} ms for one evaluation of all")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--keep", type=Path, help="keep or reuse the history in this folder")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="embellie-boards-"))
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / "end"
    queries = [q for path in sorted(BOARDS.glob("*.json")) for q in board_queries(path)]
    if not stamp.exists():
        end_s = int(time.time()) // HOUR * HOUR
        make_history(queries, folder, end_s, options.days)
        stamp.write_text(str(end_s), encoding="utf-8")
    end_s = int(stamp.read_text(encoding="utf-8"))
    settings = folder / "prometheus.yaml"
    settings.write_text("global: {}\n", encoding="utf-8")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [
            binaries() / "prometheus", f"--config.file={settings}", f"--storage.tsdb.path={folder / 'data'}",
            "--storage.tsdb.retention.time=400d", f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
        ]
    )  # fmt: skip
    try:

        def ready() -> bool:
            try:
                return requests.get(f"{url}/-/ready", timeout=1).status_code == 200
            except requests.RequestException:
                return False

        until(ready, "Prometheus is ready", 60)
        zones = f"{GRID_ZONES} grid and {THERMAL_ZONES} thermal zones"
        print(f"{NAMESPACES} namespaces, {GPUS} GPUs, {zones}, {options.days} days")
        good = measure(url, end_s, options.days)
        measure_rules(url, end_s)
    finally:
        server.terminate()
        server.wait(30)
        if options.keep is None:
            shutil.rmtree(folder)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
