# SPDX-License-Identifier: Apache-2.0
"""Manifests of work as users write them, for a real API server."""

from collections.abc import Mapping
from typing import Any

ZONE = "topology.kubernetes.io/zone"


def job(
    name: str,
    namespace: str,
    *,
    flex: str | None = "patient",
    pods: int = 1,
    gpus: int = 8,
    zone: str = "",
    spec: Mapping[str, Any] | None = None,
    **notes: str,
) -> dict[str, Any]:
    """A Job; `gpus` per pod, `spec` adds to its pods', and `notes` are annotations of ours: `max_delay="8s"`."""
    limits = {"nvidia.com/gpu": str(gpus)}
    pod_spec = {
        "restartPolicy": "Never",
        "containers": [{"name": "train", "image": "example.com/train:1", "resources": {"limits": limits}}],
        **({"nodeSelector": {ZONE: zone}} if zone else {}),
        **(spec or {}),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"embellie.io/flex": flex} if flex else {},
            "annotations": {f"embellie.io/{key.replace('_', '-')}": value for key, value in notes.items()},
        },
        "spec": {"parallelism": pods, "completions": pods, "backoffLimit": 0, "template": {"spec": pod_spec}},
    }


def pod(name: str, namespace: str, *, gpus: int = 1, **told: Any) -> dict[str, Any]:
    """A bare pod, told like a Job."""
    raw = job(name, namespace, gpus=gpus, **told)
    spec = raw["spec"]["template"]["spec"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": raw["metadata"], "spec": spec}
