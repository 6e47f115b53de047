# SPDX-License-Identifier: Apache-2.0
"""The operator at scale, on a real API server: start, turn, release, idle, and two thousand Jobs at once.

    python tests/bench/bench_scale.py [--jobs 5000] [--pods 5000] [--nodes 500] [--json FILE]

What the machine itself can do is measured beside it, on the same cluster and with the same kinds of work: bare patches
(no read, no plan, no record, no operator), sixteen at a time. That is the API server's own limit for a moment; what
it can sustain is the rate at which that work comes to run, since whoever releases for minutes shares the machine with
the controllers that create, bind and start the pods. The same is measured with the operator's own writes, which are
read afresh, guarded and placed, by no operator: what is left between that and its rate is its deciding.

Decision to release is measured from outside: from the second that the release carries (`embellie.io/released-at`, cut
to the second, so up to one second too long) to the moment that a watch shows the workload unsuspended or ungated.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from scale.crowd import (
    TENANT,
    ZONES,
    create,
    forecasts,
    held,
    is_all_running,
    is_any_held,
    is_held_when_created,
    prepare,
    switch_on,
)
from scale.gauges import cpu_s, cpu_share, mean_plan_s, metric, peak_mib, percentile, plane_cpu_s, planning
from scale.watch import Watch

from embellie.cluster.actuate import Outcome, ReleaseOrder, Releaser
from embellie.cluster.client import Json, KubeClient
from embellie.cluster.events import RATE_PER_S
from embellie.cluster.records import parse_bare_pod, parse_job
from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.processes import until
from embellie_testbed.product import NAMESPACE, RELEASE, Program, dirty_now_clean_later, start_operator, switch_says

IDLE_S = 90.0
KINDS = (("/apis/batch/v1", "jobs"), ("/api/v1", "pods"))


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)


def measure_start(plane: ControlPlane, exchange: Path, count: int) -> tuple[Program, dict[str, float]]:
    """Start the operator on a full house; wait until every plan is written."""
    began = time.monotonic()
    operator = start_operator(plane, exchange, flags=())
    until(lambda: "complete snapshot" in operator.log(), "first snapshot", 120, every_seconds=0.05)
    snapshot_s = time.monotonic() - began
    until(lambda: metric(operator, "embellie_turns_total").get('{outcome="complete"}', 0) >= 1, "first turn", 180)
    first_turn_s = time.monotonic() - began
    rest = plane.rest()

    def plans() -> int:
        page = rest.request("GET", "/apis/embellie.io/v1alpha1/workloadplans?limit=1")
        return len(page["items"]) + int(page["metadata"].get("remainingItemCount") or 0)

    until(lambda: plans() >= count, "all plans", 900, every_seconds=1.0)
    return operator, {
        "first_snapshot_s": snapshot_s,
        "first_turn_s": first_turn_s,
        "all_plans_written_s": time.monotonic() - began,
    }


def let_events_be_said(count: int, start: Mapping[str, float]) -> None:
    """Wait while the operator may still write an event for each plan, at its own pace: only time tells when it has."""
    time.sleep(max(0.0, count / RATE_PER_S - start["all_plans_written_s"]))


def measure_release(plane: ControlPlane, exchange: Path, operator: Program, count: int) -> dict[str, float]:
    """Make now the best hour, and watch everything go; tell where the processors' time goes meanwhile."""
    watch = Watch(plane)
    time.sleep(1.1)  # a forecast file is named by its second
    all_before_s, own_before_s, idle_before_s = plane_cpu_s(), cpu_s(operator.pid), psutil.cpu_times().idle
    began = time.time()
    forecasts(exchange, [100.0] * 6 + [500.0] * 90)
    # A loaded machine of two cores lets go as few as ten a second.
    until(lambda: len(watch.seen) >= count, f"{count} released", max(600.0, count / 10.0), every_seconds=0.5)
    all_s, own_s = plane_cpu_s() - all_before_s, cpu_s(operator.pid) - own_before_s
    idle = (psutil.cpu_times().idle - idle_before_s) / (time.time() - began)
    times = sorted(watch.seen.values())
    watch.stop()
    return {
        "released": len(times),
        "whole_s": times[-1] - began,
        "cores_idle": idle,
        "plane_cpu_ms": 1000.0 * (all_s - own_s) / count,
        "operator_cpu_ms": 1000.0 * own_s / count,
        "rate_per_s": (len(times) - 1) / (times[-1] - times[0]),
        "decision_to_release_p50_s": percentile(watch.delays_s, 0.5),
        "decision_to_release_p99_s": percentile(watch.delays_s, 0.99),
    }


def measure_burst(kube: KubeClient, operator: Program, count: int) -> dict[str, float]:
    """Create many Jobs at once while now is the best hour; asked by lists, since a watch this fast gets cut off."""
    process, before_s = psutil.Process(operator.pid), cpu_s(operator.pid)
    began = time.time()
    creation_s = create(kube, "Job", count, "burst")
    until(lambda: not is_any_held(kube), "the burst is out", 300, every_seconds=0.3)
    all_released_s = time.time() - began
    used_s = cpu_s(operator.pid) - before_s
    jobs = kube.list_all(f"/apis/batch/v1/namespaces/{TENANT}/jobs", {"labelSelector": "embellie.io/flex"})
    made = [j["metadata"] for j in jobs if j["metadata"]["name"].startswith("burst-")]
    stamps = [meta.get("annotations", {}).get("embellie.io/released-at") for meta in made]
    released = sorted(datetime.fromisoformat(stamp).timestamp() for stamp in stamps if stamp)
    return {
        "creation_s": creation_s,
        "released": len(released),
        "first_released_s": max(0.0, released[0] - began),
        "all_released_s": all_released_s,
        "operator_cpu_s": used_s,
        "operator_rss_mib": process.memory_info().rss / 2**20,
    }


def hold_some(plane: ControlPlane, kube: KubeClient, jobs: int, pods: int) -> tuple[list[Json], list[Json], float]:
    """Create work that is held; return its Jobs, its pods, and how many were created each second."""
    switch_on(plane)
    until(lambda: is_held_when_created(kube), "the API server holds", 60)
    creation_s = create(kube, "Job", jobs, "bare") + create(kube, "Pod", pods, "bare")
    selector = {"labelSelector": "embellie.io/held=true"}
    found = [list(kube.list_all(f"{root}/{plural}", selector)) for root, plural in KINDS]
    return found[0], found[1], (jobs + pods) / creation_s


def clear(plane: ControlPlane, kube: KubeClient) -> None:
    """Delete all work, and wait until it is gone."""
    for _, plural in KINDS:
        plane.kubectl("delete", plural, "--all", "-n", TENANT, "--wait=false", "--grace-period=0")
    left = [f"{root}/namespaces/{TENANT}/{plural}?limit=1" for root, plural in KINDS]
    until(lambda: not any(kube.get(path)["items"] for path in left), "the bare work is gone", 300, every_seconds=1.0)


def rates(
    plane: ControlPlane, kube: KubeClient, prefix: str, count: int, let_go: Callable[[], None]
) -> dict[str, float]:
    """Let work go, and measure how fast, how fast it comes to run, and what that costs the control plane."""
    before_s, began = plane_cpu_s(), time.monotonic()
    let_go()
    took_s = time.monotonic() - began
    until(lambda: is_all_running(kube, count), "what was let go runs", 300, every_seconds=0.5)
    found = {
        f"{prefix}_releases_per_s": count / took_s,
        f"{prefix}_started_per_s": count / (time.monotonic() - began),
        f"{prefix}_plane_cpu_ms": 1000.0 * (plane_cpu_s() - before_s) / count,
    }
    clear(plane, kube)
    return found


def measure_bare_patches(plane: ControlPlane, kube: KubeClient, jobs: int, pods: int) -> dict[str, float]:
    """Let held work go by hand, without an operator: how fast the API server, and what follows a start, can be."""
    *held_work, created_per_s = hold_some(plane, kube, jobs, pods)
    marker = {"op": "remove", "path": "/metadata/labels/embellie.io~1held"}
    start = (
        [marker, {"op": "replace", "path": "/spec/suspend", "value": False}],
        [marker, {"op": "remove", "path": "/spec/schedulingGates"}],
    )
    work = [
        (f"{root}/namespaces/{TENANT}/{plural}/{raw['metadata']['name']}", patch)
        for (root, plural), patch, raws in zip(KINDS, start, held_work, strict=True)
        for raw in raws
    ]

    def let_go() -> None:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda each: kube.json_patch(each[0], each[1], timeout_s=60.0), work, chunksize=8))

    return {"bare_created_per_s": created_per_s, **rates(plane, kube, "bare", len(work), let_go)}


def measure_releases_alone(plane: ControlPlane, kube: KubeClient, jobs: int, pods: int) -> dict[str, float]:
    """The same with the operator's own writes (read afresh, guarded, placed, with its rights), and no operator."""
    *held_work, _ = hold_some(plane, kube, jobs, pods)
    now = datetime.now(UTC)
    orders = [
        ReleaseOrder(
            key=record.key,
            placement_labels={"topology.kubernetes.io/zone": ZONES[0]},
            cell=ZONES[0],
            reason="CleanerWindow",
            released_at=now,
            decided_on=record,
        )
        for parse, raws in zip((parse_job, parse_bare_pod), held_work, strict=True)
        for record in map(parse, raws)
        if record is not None
    ]
    releaser = Releaser(KubeClient.from_environment(plane.kubeconfig_for(NAMESPACE, f"{RELEASE}-operator")))

    def let_go() -> None:
        results = releaser.release(orders, 600.0)
        refused = [result for result in results if result.outcome is not Outcome.RELEASED]
        if refused:
            raise RuntimeError(f"not released: {refused}")

    return rates(plane, kube, "alone", len(orders), let_go)


def run_full_house(jobs: int, pods: int, nodes: int) -> dict[str, Any]:
    """Start, plan, idle and release with everything held."""
    found: dict[str, Any] = {}
    with ControlPlane.start(scheduler=True, kwok=True) as plane, tempfile.TemporaryDirectory() as folder:
        exchange = Path(folder)
        prepare(plane, nodes)
        forecasts(exchange, dirty_now_clean_later(96))
        kube = KubeClient.from_environment(plane.kubeconfig)
        found["bare"] = measure_bare_patches(plane, kube, jobs // 5, pods // 5)
        found["bare"] |= measure_releases_alone(plane, kube, jobs // 5, pods // 5)
        say(json.dumps(found["bare"], indent=1))
        say(f"creating {jobs} Jobs and {pods} pods on {nodes} nodes")
        found["creation_s"] = create(kube, "Job", jobs, "job") + create(kube, "Pod", pods, "pod")
        found["held"] = held(kube)
        operator, start = measure_start(plane, exchange, jobs + pods)
        found |= start
        found["plan_s"] = mean_plan_s(planning(operator))
        found["rss_mib_held"] = psutil.Process(operator.pid).memory_info().rss / 2**20
        let_events_be_said(jobs + pods, start)
        settled = planning(operator)
        found["idle_core_share_all_held"] = cpu_share(operator.pid, IDLE_S)
        found["plan_settled_s"] = mean_plan_s(planning(operator), settled)
        say(json.dumps(found, indent=1))
        found["release"] = measure_release(plane, exchange, operator, jobs + pods)
        found["rss_mib_peak"] = peak_mib(operator.pid)
        say(json.dumps(found["release"], indent=1))
        operator.stop()
    return found


def run_idle_and_burst(jobs: int, burst: int, nodes: int) -> dict[str, Any]:
    """Idle with `jobs` held; then, on a fresh operator, a burst."""
    found: dict[str, Any] = {}
    with ControlPlane.start(scheduler=True, kwok=True) as plane, tempfile.TemporaryDirectory() as folder:
        exchange = Path(folder)
        prepare(plane, nodes)
        kube = KubeClient.from_environment(plane.kubeconfig)
        found["bare"] = measure_bare_patches(plane, kube, burst, 0)
        say(json.dumps(found["bare"], indent=1))
        forecasts(exchange, [100.0] * 96)
        operator = start_operator(plane, exchange, flags=())
        until(lambda: "complete snapshot" in operator.log(), "first snapshot", 120)
        until(lambda: metric(operator, "embellie_turns_total").get('{outcome="complete"}', 0) >= 1, "first turn", 180)
        until(lambda: switch_says(plane).get("enabled") == "true", "holding", 60)
        until(lambda: is_held_when_created(kube), "the API server holds", 60)
        say(f"creating {burst} Jobs at once")
        found["burst"] = measure_burst(kube, operator, burst)
        found["burst"]["operator_peak_mib"] = peak_mib(operator.pid)
        say(json.dumps(found["burst"], indent=1))
        operator.stop()
        if not jobs:
            return found
        plane.kubectl("delete", "jobs", "--all", "-n", TENANT, "--wait=false")
        time.sleep(1.1)
        forecasts(exchange, dirty_now_clean_later(96))
        switch_on(plane)
        create(kube, "Job", jobs, "idle")
        operator, start = measure_start(plane, exchange, jobs)
        let_events_be_said(jobs, start)
        time.sleep(20.0)
        found["idle_core_share"] = cpu_share(operator.pid, 90.0)
        operator.stop()
    return found


def by_hand_s(burst: Mapping[str, float], bare: Mapping[str, float], until: str) -> float:
    """How long the burst takes without an operator: all created, then all patched [s].

    Args:
        burst: What was measured with the operator.
        bare: What was measured without it.
        until: The rate that it ends with: `bare_releases_per_s`, or `bare_started_per_s` once its pods run.
    """
    return burst["released"] / bare["bare_created_per_s"] + burst["released"] / bare[until]


def main() -> int:
    """Run both parts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--pods", type=int, default=5000)
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--burst", type=int, default=2000)
    parser.add_argument("--burst-only", action="store_true", help="measure the burst and nothing else")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.burst_only:
        run_idle_and_burst(0, options.burst, options.nodes)
        return 0
    full = run_full_house(options.jobs, options.pods, options.nodes)
    rest = run_idle_and_burst(options.jobs, options.burst, options.nodes)
    burst = rest["burst"]
    rows = [
        ("first complete snapshot after start", f"{full['first_snapshot_s']:.1f} s", "<= 20 s"),
        ("planning turn, the first ones after a start", f"{full['plan_s']:.2f} s", "< 2 s"),
        ("planning turn, once all events have come", f"{full['plan_settled_s']:.2f} s", "< 2 s"),
        ("decision to release, p99", f"{full['release']['decision_to_release_p99_s']:.1f} s", "< 5 s"),
        ("releases sustained", f"{full['release']['rate_per_s']:.0f} /s", ">= 200 /s, or the next row"),
        ("  the API server's own limit here", f"{full['bare']['bare_releases_per_s']:.0f} /s", "(bare patches)"),
        (
            "  the same until what was let go runs",
            f"{full['bare']['bare_started_per_s']:.0f} /s",
            "(what can be sustained)",
        ),
        (
            "  the operator's own writes alone, until it runs",
            f"{full['bare']['alone_started_per_s']:.0f} /s",
            "(read afresh, guarded, placed)",
        ),
        ("  cores idle meanwhile", f"{full['release']['cores_idle']:.1f}", f"(of {psutil.cpu_count()})"),
        (
            "  CPU a release, control plane and operator",
            f"{full['release']['plane_cpu_ms']:.0f} + {full['release']['operator_cpu_ms']:.0f} ms",
            f"(own writes alone: {full['bare']['alone_plane_cpu_ms']:.0f} ms)",
        ),
        (f"operator memory, {full['held']} held", f"{full['rss_mib_held']:.0f} MiB", "< 400 MiB"),
        ("operator memory, peak", f"{full['rss_mib_peak']:.0f} MiB", "< 400 MiB"),
        (f"{options.burst} Jobs at once: first released", f"{burst['first_released_s']:.1f} s", "(Kueue: 25 s)"),
        (f"{options.burst} Jobs at once: all released", f"{burst['all_released_s']:.1f} s", "<= 20 s (Kueue: 61 s)"),
        (
            "  created and patched by hand",
            f"{by_hand_s(burst, rest['bare'], 'bare_releases_per_s'):.1f} s",
            "(bare, no operator)",
        ),
        ("  the same until it runs", f"{by_hand_s(burst, rest['bare'], 'bare_started_per_s'):.1f} s", "(bare)"),
        ("  operator CPU for it", f"{burst['operator_cpu_s']:.1f} s", "< 15 s"),
        ("  operator memory", f"{burst['operator_peak_mib']:.0f} MiB", "< 226 MiB"),
        (f"idle with {options.jobs} held", f"{100 * rest['idle_core_share']:.1f} % of a core", "< 5 %"),
    ]
    for name, value, target in rows:
        say(f"{name:<48}{value:>14}   {target}")
    if options.json:
        options.json.write_text(json.dumps(full | rest, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
