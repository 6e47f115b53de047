# SPDX-License-Identifier: Apache-2.0
"""The metrics page of a crowded cluster: fifty zones, 501 namespaces, 5,000 workloads with a series each."""

import time

from prometheus_client import generate_latest

from embellie.telemetry.metrics import REGISTRY, TABLE, Value, grid, work

MOST_BYTES = 2_000_000
MOST_S = 0.2


def thousands_of_workloads() -> list[Value]:
    return [
        Value(
            work.WORKLOAD_BOUND,
            1.8e9 + n,
            (
                f"team-with-a-long-name-{n % 200}",
                "Job",
                f"train-llama-with-a-long-name-{n:05}-xyz",
                "Held",
                "CleanerWindow",
            ),
        )
        for n in range(5000)
    ]


def crowded() -> list[Value]:
    """Fifty zones with all their forecasts, and 501 namespaces."""
    zones = [f"zone-{n}" for n in range(50)]
    ahead = [
        Value(metric, 123.456, (zone, *extra, str(hours), str(level)))
        for zone in zones
        for metric, extra in ((grid.CARBON_FORECAST, ("AverageLifecycle",)), (grid.RENEWABLE_FORECAST, ()))
        for hours in grid.LEAD_HOURS
        for level in grid.SHOWN_LEVELS
    ]
    return ahead + [Value(work.NAMESPACE_HELD_GPUS, 8.0, (f"namespace-{n}",)) for n in range(501)]


def measure(rounds: int = 5) -> tuple[int, float]:
    """Return the page's size [bytes], and the middle of the processor times that it takes [s]."""
    TABLE.replace("bench", [*crowded(), *thousands_of_workloads()])
    times, size = [], 0
    for _ in range(rounds):
        began = time.process_time()
        size = len(generate_latest(REGISTRY))
        times.append(time.process_time() - began)
    TABLE.replace("bench", [])
    return size, sorted(times)[rounds // 2]
