# SPDX-License-Identifier: Apache-2.0
"""What admission never holds is not said to be held in shadow, and is not paused: it is somebody else's to start."""

from typing import Any

import pytest

from embellie.cluster.records import parse_bare_pod, parse_job
from embellie.control.deciding.pausing import declared
from embellie_testbed.views import NOW, assembled, nodes, policy, view

OWNER = {"kind": "CronJob", "name": "nightly", "uid": "x", "controller": True}


def raw(
    meta: dict[str, Any] | None = None, annotation: str = "", label: str = "", managed_by: str | None = None
) -> dict[str, Any]:
    pod = {"containers": [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": "8"}}}]}
    return {
        "metadata": {
            "name": "train", "namespace": "research", "uid": "u", "creationTimestamp": NOW.isoformat(),
            "labels": {"embellie.io/flex": "patient", **({label: "x"} if label else {})},
            "annotations": {"embellie.io/checkpoint": "takes=5m", **({annotation: "x"} if annotation else {})},
            **(meta or {}),
        },
        "spec": {"template": {"spec": pod}, "managedBy": managed_by, **pod},
        "status": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("written", "exempt"),
    [
        (raw(), False),
        (raw(managed_by="kubernetes.io/job-controller"), False),
        (raw({"ownerReferences": [OWNER]}), True),
        (raw(label="kueue.x-k8s.io/queue-name"), True),
        (raw(annotation="helm.sh/hook"), True),
        (raw(annotation="argocd.argoproj.io/hook"), True),
        (raw(managed_by="kueue.x-k8s.io/multikueue"), True),
    ],
    ids=["plain", "its own controller", "owned", "queued", "Helm's", "Argo's", "managed elsewhere"],
)
def test_shadow_and_pauses_leave_alone_what_admission_does(written: dict[str, Any], exempt: bool):
    job = parse_job(written)
    assert job is not None
    watched = assembled(view=view(job, on=nodes()), policies=(policy(mode="shadow"),))
    assert bool(watched.shadow.workloads) is not exempt
    assert (declared(job) is None) is exempt


def test_a_held_pod_that_a_controller_adopts_keeps_its_bound():
    labels = {"embellie.io/flex": "patient", "embellie.io/held": "true"}
    adopted = raw({"ownerReferences": [OWNER], "labels": labels})
    pod = parse_bare_pod({**adopted, "spec": {**adopted["spec"], "schedulingGates": [{"name": "embellie.io/hold"}]}})
    assert pod is not None
    (held,) = assembled(view=view(pod, on=nodes())).snapshot.workloads
    assert held.enforced
    assert held.start_now is None
    assert parse_bare_pod(raw({"ownerReferences": [OWNER]})) is None, "what was never ours has an owner to ask"


def test_a_pod_in_a_queue_is_not_watched_either():
    pod = parse_bare_pod(raw(label="kueue.x-k8s.io/queue-name"))
    assert pod is not None
    assert not assembled(view=view(pod, on=nodes()), policies=(policy(mode="shadow"),)).shadow.workloads
