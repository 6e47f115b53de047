# SPDX-License-Identifier: Apache-2.0
"""How fast held work is let go: N Jobs and N gated pods through the Releaser, on a real API server.

`python tests/bench/bench_release.py --jobs 1000 --pods 1000`. It prints the rate, and how long after the decision
each write stood in the API server (p50, p99).
"""

import argparse
import contextlib
import json
import os
import resource
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import psutil

from embellie.cluster.actuate import Outcome, ReleaseOrder, Releaser
from embellie.cluster.client import ApiError, KubeClient, object_path
from embellie.cluster.patches import Operation
from embellie.domain import names
from embellie.domain.snapshot import WorkloadKey, WorkloadKind
from embellie_testbed.controlplane import ControlPlane

NAMESPACE = "bench"
TARGET_PER_S = 200.0
CREATORS = 8


class TimedReleaser(Releaser):
    """Notes when each write was confirmed."""

    def __init__(self, client: KubeClient, max_parallel: int) -> None:
        super().__init__(client, max_parallel=max_parallel, time_limit_s=600.0)
        self.confirmed_at: list[float] = []

    def _patch(self, key: WorkloadKey, operations: list[Operation]) -> None:
        super()._patch(key, operations)
        self.confirmed_at.append(time.perf_counter())


def make(client: KubeClient, kind: WorkloadKind, number: int) -> WorkloadKey:
    """Create one held workload."""
    container = {"name": "c", "image": "train", "resources": {"limits": {names.GPU_RESOURCE: "1"}}}
    meta = {"name": f"{kind.lower()}-{number}", "labels": {names.HELD_LABEL: "true", names.FLEX_LABEL: "patient"}}
    if kind is WorkloadKind.JOB:
        spec = {"suspend": True, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}
        path = object_path("batch/v1", "jobs", namespace=NAMESPACE)
        body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec}
    else:
        spec = {"schedulingGates": [{"name": names.GATE}], "containers": [container]}
        path = object_path("v1", "pods", namespace=NAMESPACE)
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}
    made = client.create(path, body, timeout_s=60.0)
    return WorkloadKey(namespace=NAMESPACE, name=meta["name"], kind=kind, uid=made["metadata"]["uid"])  # type: ignore[arg-type]


def order(key: WorkloadKey) -> ReleaseOrder:
    """Release it into a zone."""
    return ReleaseOrder(
        key=key,
        placement_labels={"topology.kubernetes.io/zone": "west", "embellie.io/row": "1"},
        cell="west.row-1",
        reason="BestNow",
        released_at=datetime.now(UTC),
    )


def settle(client: KubeClient, jobs: int) -> None:
    """Wait until the Job controller has taken note of every Job, so that the bench does not measure it."""
    pause = threading.Event()
    while True:
        listed = client.list_all(object_path("batch/v1", "jobs", namespace=NAMESPACE))
        if sum(1 for job in listed if (job.get("status") or {}).get("conditions")) >= jobs:
            return
        pause.wait(1.0)


def control_plane_cpu_s() -> float:
    """CPU time of the programs that we started [s]: what the same machine spends on the other side of the line."""
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return sum(each.user + each.system for each in times)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of all lie."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=400, help="releases handed over at once (the operator's turn)")
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--kubeconfig", help="an API server that runs already; without it one is started")
    options = parser.parse_args()
    if options.kubeconfig:
        run(KubeClient.from_environment(options.kubeconfig), options)
        return
    with ControlPlane.start(scheduler=False, kwok=False) as plane:
        run(KubeClient.from_environment(plane.kubeconfig), options)


def run(client: KubeClient, options: argparse.Namespace) -> None:
    """Create, release, print."""
    client.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    with contextlib.suppress(ApiError):  # the controller manager may have been quicker
        client.create(object_path("v1", "serviceaccounts", namespace=NAMESPACE), {"metadata": {"name": "default"}})
    with ThreadPoolExecutor(CREATORS) as pool:
        keys = [
            *pool.map(lambda number: make(client, WorkloadKind.JOB, number), range(options.jobs)),
            *pool.map(lambda number: make(client, WorkloadKind.POD, number), range(options.pods)),
        ]
    settle(client, options.jobs)
    releaser = TimedReleaser(client, options.threads)
    outcomes: Counter[Outcome] = Counter()
    waited_s: list[float] = []
    plane_before_s = control_plane_cpu_s()
    cpu_before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for first in range(0, len(keys), options.batch):
        decided_at, releaser.confirmed_at = time.perf_counter(), []
        results = releaser.release([order(key) for key in keys[first : first + options.batch]])
        outcomes.update(result.outcome for result in results)
        waited_s += [at - decided_at for at in releaser.confirmed_at]
    took_s, cpu = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    rate = outcomes[Outcome.RELEASED] / took_s
    report = {
        "jobs": options.jobs,
        "pods": options.pods,
        "batch": options.batch,
        "threads": options.threads,
        "releases_per_s": round(rate, 1),
        "decision_to_written_p50_s": round(percentile(waited_s, 0.5), 3),
        "decision_to_written_p99_s": round(percentile(waited_s, 0.99), 3),
        "seconds": round(took_s, 2),
        "client_cpu_ms_per_release": round(
            1000.0 * (cpu.ru_utime + cpu.ru_stime - cpu_before.ru_utime - cpu_before.ru_stime) / len(keys), 2
        ),
        "control_plane_cpu_ms_per_release": round(1000.0 * (control_plane_cpu_s() - plane_before_s) / len(keys), 2),
        "load_average_1_min": round(os.getloadavg()[0], 1),
        "peak_rss_mib": cpu.ru_maxrss // 1024,
        "outcomes": {str(outcome): count for outcome, count in sorted(outcomes.items())},
        "reached_200_per_s": rate >= TARGET_PER_S,
    }
    print(json.dumps(report, indent=2))
    client.close()


if __name__ == "__main__":
    main()
