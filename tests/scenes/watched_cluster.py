# SPDX-License-Identifier: Apache-2.0
"""Held work, a switch and a heartbeat as the operator leaves them behind, and watchdog processes beside them."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from embellie.watchdog import names
from embellie.watchdog.api import Api, namespaced
from embellie.watchdog.lease import lease_path, micro_time, read_lease
from embellie.watchdog.sweep import list_held

NAME = "embellie"


def make_job(api: Api, namespace: str, name: str, *, held: bool = True, **annotations: str) -> dict[str, Any]:
    labels = {"embellie.io/flex": "patient"} | ({names.HELD_LABEL: "true"} if held else {})
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "train"}]}
    meta = {"name": name, "labels": labels, "annotations": {k.replace("_", "/", 1): v for k, v in annotations.items()}}
    body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta,
        "spec": {"suspend": True, "template": {"spec": pod}},
    }
    return api.create(namespaced("apis/batch/v1", namespace, "jobs"), body)


def make_pod(api: Api, namespace: str, name: str, *gates: str) -> dict[str, Any]:
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {names.HELD_LABEL: "true", "embellie.io/flex": "patient"}},
        "spec": {"schedulingGates": [{"name": g} for g in gates], "containers": [{"name": "c", "image": "train"}]},
    }
    return api.create(namespaced("api/v1", namespace, "pods"), body)


def make_plan(api: Api, job: dict[str, Any], latest_start: datetime) -> None:
    meta = job["metadata"]
    ref = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"]}
    spec = {
        "workloadRef": ref,
        "latestStartTime": latest_start.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "policyName": "p",
        "mode": "enforce",
    }
    body = {
        "apiVersion": "embellie.io/v1alpha1",
        "kind": "WorkloadPlan",
        "metadata": {"name": f"job-{meta['name']}"},
        "spec": spec,
    }
    api.create(namespaced("apis/embellie.io/v1alpha1", meta["namespace"], "workloadplans"), body)


def make_switch(api: Api, namespace: str, **data: str) -> None:
    values = {"enabled": "true", "locked": "false", "namespaces": f",{namespace},", **data}
    meta = {"name": names.switch_name(NAME)}
    api.create(
        namespaced("api/v1", namespace, "configmaps"),
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": values},
    )


def beat(api: Api, namespace: str, age_seconds: float = 0.0) -> None:
    """Complete a turn, as the operator would."""
    spec = {
        "holderIdentity": "operator",
        "renewTime": micro_time(datetime.now(UTC) - timedelta(seconds=age_seconds)),
        "leaseDurationSeconds": 120,
    }
    if read_lease(api, namespace, names.heartbeat_name(NAME)):
        api.merge_patch(lease_path(namespace, names.heartbeat_name(NAME)), {"spec": spec})
        return
    meta = {"name": names.heartbeat_name(NAME)}
    body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
    api.create(lease_path(namespace), body)


def job_of(api: Api, namespace: str, name: str) -> dict[str, Any]:
    return api.get(namespaced("apis/batch/v1", namespace, "jobs", name))


def released(api: Api, namespace: str, name: str) -> bool:
    job = job_of(api, namespace, name)
    return job["spec"]["suspend"] is False and names.HELD_LABEL not in job["metadata"]["labels"]


def events(api: Api, namespace: str, reason: str = names.EVENT_REASON) -> list[dict[str, Any]]:
    found = [e for e in api.list(namespaced("apis/events.k8s.io/v1", namespace, "events")) if e.get("reason") == reason]
    return sorted(found, key=lambda e: str(e["eventTime"]))


def held_in(api: Api, namespace: str) -> list[str]:
    return [h.name for h in list_held(api) if h.namespace == namespace]


@contextmanager
def watchdog(
    control_plane: Any, log: Path, verb: str, namespace: str, *more: str, kubeconfig: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    with log.open("w") as out:
        command = [sys.executable, "-m", "embellie.watchdog.main", verb, "--namespace", namespace]
        process = subprocess.Popen(
            [*command, "--kubeconfig", str(kubeconfig or control_plane.kubeconfig), *more],
            stdout=subprocess.PIPE,
            stderr=out,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def guard_options(dead_man: float = 2.0, release: float = 5.0, identity: str = "one") -> list[str]:
    seconds = ["--dead-man-seconds", str(dead_man), "--release-seconds", str(release)]
    return [*seconds, "--health-port", "0", "--identity", identity]
