# SPDX-License-Identifier: Apache-2.0
"""What a pod's spec asks of a node: GPUs, other devices, labels, and leave from taints. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

from embellie.cluster.taints import Toleration, parse_tolerations
from embellie.domain import names

Raw = Mapping[str, Any]

CLAIMED = "resource claims"
"""Stands for devices of which nobody tells us the nodes that have them; no resource has such a name."""
_QUANTITY = re.compile(r"\+?([0-9]{1,40}(?:\.[0-9]{0,40})?)(?:[eE]([+-]?[0-9]{1,2})|([numkMGTPE]|[KMGTPE]i)?)")
_FACTORS = {
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate(("n", "u", "m", "", "k", *"MGTPE"), start=-3)},
    **{f"{prefix}i": Decimal(1024) ** power for power, prefix in enumerate("KMGTPE", start=1)},
}
_MOST = 2**63 - 1
"""What the API server counts to."""
_ON_EVERY_NODE = frozenset({"cpu", "memory", "ephemeral-storage", "pods", names.GPU_RESOURCE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """The parts of a pod spec that say where it may run."""

    node_selector: tuple[tuple[str, str], ...] = ()
    node_affinity: Raw | None = None
    """`requiredDuringSchedulingIgnoredDuringExecution` as written."""
    tolerations: tuple[Toleration, ...] = ()
    devices: frozenset[str] = frozenset()
    """What a node must offer besides CPU, memory and GPUs, by the names of resources (`rdma/hca`)."""

    def as_pod_spec(self) -> dict[str, Any]:
        """Return what chooses nodes by their labels, in the shape of a pod spec."""
        spec: dict[str, Any] = {}
        if self.node_selector:
            spec["nodeSelector"] = dict(self.node_selector)
        if self.node_affinity:
            spec["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": self.node_affinity}}
        return spec


UNCONSTRAINED = Constraints()


def gpus_of(pod_spec: Raw) -> int:
    """Return the GPUs that the scheduler counts for one pod: the larger of its containers' sum and any init's."""

    def of(containers: Iterable[Raw]) -> list[int]:
        return [as_count(_wanted(container).get(names.GPU_RESOURCE, 0)) for container in containers]

    return max(sum(of(pod_spec.get("containers") or ())), max(of(pod_spec.get("initContainers") or ()), default=0))


def constraints_of(pod_spec: Raw) -> Constraints:
    """Read what says where a pod may run; work that says the same shares one object."""
    selector = pod_spec.get("nodeSelector") or {}
    affinity = ((pod_spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    tolerations, devices = parse_tolerations(pod_spec), _devices(pod_spec)
    if not selector and not affinity and not tolerations and not devices:
        return UNCONSTRAINED
    node_selector = tuple(sorted(selector.items()))
    if not affinity:
        return _shared_constraints(node_selector, tolerations, devices)
    return Constraints(node_selector=node_selector, node_affinity=affinity, tolerations=tolerations, devices=devices)


def devices_in(amounts: Raw) -> frozenset[str]:
    """Return the names of what is asked for or offered besides CPU, memory and GPUs."""
    return frozenset(name for name, amount in amounts.items() if name not in _ON_EVERY_NODE and str(amount) != "0")


def as_int(value: object, default: int) -> int:
    """Read a whole number; `default` for anything else."""
    try:
        return int(str(value))
    except ValueError:
        return default


def as_count(quantity: object) -> int:
    """Read how many of something are asked for or offered, as the API server writes quantities; 0 for anything else.

    >>> [as_count(text) for text in ("8", "1k", "8e0", "2Ki", "8000m", "many", "-1")]
    [8, 1000, 8, 2048, 8, 0, 0]
    """
    text = str(quantity)
    if text.isascii() and text.isdigit():
        return min(int(text[:20]), _MOST)
    found = _QUANTITY.fullmatch(text)
    if found is None:
        return 0
    number, exponent, suffix = found.groups()
    factor = Decimal(10) ** int(exponent) if exponent else _FACTORS[suffix or ""]
    return min(int(Decimal(number) * factor), _MOST)


@lru_cache(maxsize=4096)
def _shared_constraints(
    node_selector: tuple[tuple[str, str], ...], tolerations: tuple[Toleration, ...], devices: frozenset[str]
) -> Constraints:
    """Return one object for all workloads that say the same: whole clusters tolerate the same few taints."""
    return Constraints(node_selector=node_selector, tolerations=tolerations, devices=devices)


def _devices(pod_spec: Raw) -> frozenset[str]:
    containers = (*(pod_spec.get("containers") or ()), *(pod_spec.get("initContainers") or ()))
    asked = frozenset[str]().union(*(devices_in(_wanted(container)) for container in containers))
    # Beside counted GPUs a claim is for something else; without them the GPUs may be what is claimed.
    return asked | {CLAIMED} if pod_spec.get("resourceClaims") and not gpus_of(pod_spec) else asked


def _wanted(container: Raw) -> Raw:
    resources = container.get("resources") or {}
    return {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
