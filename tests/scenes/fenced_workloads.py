# SPDX-License-Identifier: Apache-2.0
"""Held and free workloads, and the changes to them that the fence lets through or refuses."""

from typing import Any

import pytest

from embellie.cluster.client import ApiError, KubeClient, object_path
from embellie.domain import names

Json = dict[str, Any]
OURS = ["operator", "watchdog"]
"""The components whose ServiceAccounts the fence is around."""
MARKER = "/metadata/labels/embellie.io~1held"

ZONE_TERM = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["west"]}]}
USER_TERM = {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["fast"]}]}
USER_SELECTOR = {"arch": "amd64"}
BOTH_TERM = {"matchExpressions": USER_TERM["matchExpressions"] + ZONE_TERM["matchExpressions"]}
APART = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "train"}}}
USER_AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [USER_TERM]},
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": ZONE_TERM}],
    },
    "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": APART}]},
}


def add(path: str, value: Any) -> Json:
    return {"op": "add", "path": path, "value": value}


def remove(path: str) -> Json:
    return {"op": "remove", "path": path}


def spec_of(kind: str) -> Json:
    pod = {
        "restartPolicy": "Never",
        "affinity": USER_AFFINITY,
        "nodeSelector": USER_SELECTOR,
        "containers": [{"name": "main", "image": "train:1"}],
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
    }
    if kind == "Job":
        return {"suspend": True, "parallelism": 1, "template": {"metadata": {"labels": {"app": "train"}}, "spec": pod}}
    return {**pod, "schedulingGates": [{"name": names.GATE}, {"name": "example.com/data"}]}


def path_of(obj: Json, subresource: str = "") -> str:
    meta = obj["metadata"]
    plural = f"{obj['kind'].lower()}s"
    return object_path(obj["apiVersion"], plural, meta["name"], namespace=meta["namespace"], subresource=subresource)


def denied(client: KubeClient, obj: Json, operations: list[Json]) -> str:
    """The fence's own words; anything else that is in the way is an error of the test."""
    with pytest.raises(ApiError) as caught:
        client.json_patch(path_of(obj), operations)
    assert caught.value.status == 403, caught.value
    assert "embellie-fence" in caught.value.message, caught.value
    return caught.value.message
