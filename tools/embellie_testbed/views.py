# SPDX-License-Identifier: Apache-2.0
"""Builds what one turn of the operator sees, so that tests of its pure middle say only what matters to them.

Two grid zones, west and east, of four nodes of eight GPUs; one policy that enforces everywhere; a forecast that is bad
for six hours. All of it can be replaced.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from embellie.api.energypolicy import EnergyPolicy
from embellie.api.gridzone import GridZone
from embellie.api.thermalzone import ThermalZone
from embellie.cluster.plans import KnownPlan
from embellie.cluster.records import NamespaceRecord, NodeRecord, PodRecord, WorkloadRecord, parse_bare_pod, parse_job
from embellie.cluster.store import View
from embellie.control.assembly.assemble import Assembly, assemble
from embellie.control.assembly.inputs import Inputs
from embellie.domain.clock import Clock, SystemClock
from embellie.domain.forecast import Forecast
from embellie.domain.reasons import Rung, SignalKind
from embellie.domain.snapshot import Workload

NOW = datetime(2026, 7, 1, 13, 20, tzinfo=UTC)
ZONE = "topology.kubernetes.io/zone"
ROW = "example.com/row"
OWN_NAMESPACE = "embellie-system"


def node(name: str, *, gpus: int = 8, schedulable: bool = True, **labels: str) -> NodeRecord:
    """Return a node; its zone is the part of its name before the first dash, its row is `ZONE-r1`."""
    zone = name.partition("-")[0]
    found = {ZONE: zone, ROW: f"{zone}-r1", **labels}
    return NodeRecord(name=name, labels=found, gpus=gpus, schedulable=schedulable)


def nodes(zones: Iterable[str] = ("west", "east"), each: int = 4) -> tuple[NodeRecord, ...]:
    """Return so many nodes in each zone."""
    return tuple(node(f"{zone}-{number}") for zone in zones for number in range(each))


def grid_zone(name: str, *, created: str = "2026-01-01T00:00:00Z", **spec: Any) -> GridZone:
    """Return a GridZone that selects the nodes of the zone of its name."""
    defaults = {"nodeSelector": {ZONE: name}, "gridRegion": "US-CISO", "jurisdiction": "US-CA"}
    return GridZone.model_validate({"metadata": _meta(name, created), "spec": {**defaults, **spec}})


def thermal_zone(name: str, *, created: str = "2026-01-01T00:00:00Z", **spec: Any) -> ThermalZone:
    """Return a ThermalZone that selects the nodes of the row of its name."""
    return ThermalZone.model_validate({"metadata": _meta(name, created), "spec": {"nodeSelector": {ROW: name}, **spec}})


def policy(name: str = "all", *, created: str = "2026-01-01T00:00:00Z", **spec: Any) -> EnergyPolicy:
    """Return an enforce policy for every namespace."""
    return EnergyPolicy.model_validate({"metadata": _meta(name, created), "spec": {"mode": "enforce", **spec}})


def _meta(name: str, created: str) -> dict[str, Any]:
    return {"name": name, "uid": f"uid-{name}", "creationTimestamp": created, "generation": 1}


def job(
    name: str = "train",
    *,
    namespace: str = "research",
    flex: str = "patient",
    held: bool = True,
    suspended: bool | None = None,
    pods: int = 1,
    gpus: int = 8,
    created: datetime = NOW - timedelta(minutes=5),
    labels: Mapping[str, str] | None = None,
    pod_spec: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
    **notes: str,
) -> WorkloadRecord:
    """Return a Job as the store keeps it; `notes` are our annotations, with underscores for dashes."""
    meta = _workload_meta(name, namespace, flex, held, created, labels, notes)
    spec = {
        "parallelism": pods,
        "completions": pods,
        "suspend": held if suspended is None else suspended,
        "template": {"spec": {"containers": [_container(gpus)], **(pod_spec or {})}},
    }
    record = parse_job({"metadata": meta, "spec": spec, "status": dict(status or {})})
    if record is None:
        raise ValueError(f"job {name} is no workload")
    return record


def bare_pod(
    name: str = "probe",
    *,
    namespace: str = "research",
    flex: str = "patient",
    held: bool = True,
    gates: Sequence[str] | None = None,
    gpus: int = 1,
    created: datetime = NOW - timedelta(minutes=5),
    labels: Mapping[str, str] | None = None,
    **notes: str,
) -> WorkloadRecord:
    """Return a pod without owner as the store keeps it."""
    names = (["embellie.io/hold"] if held else []) if gates is None else gates
    meta = _workload_meta(name, namespace, flex, held, created, labels, notes)
    spec = {"containers": [_container(gpus)], "schedulingGates": [{"name": gate} for gate in names]}
    record = parse_bare_pod({"metadata": meta, "spec": spec, "status": {}})
    if record is None:
        raise ValueError(f"pod {name} is no workload")
    return record


def _container(gpus: int) -> dict[str, Any]:
    return {"name": "main", "resources": {"limits": {"nvidia.com/gpu": str(gpus)} if gpus else {}}}


def _workload_meta(
    name: str,
    namespace: str,
    flex: str,
    held: bool,
    created: datetime,
    labels: Mapping[str, str] | None,
    notes: Mapping[str, str],
) -> dict[str, Any]:
    found = {**({"embellie.io/flex": flex} if flex else {}), **({"embellie.io/held": "true"} if held else {})}
    return {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-{namespace}-{name}",
        "creationTimestamp": created.isoformat(),
        "labels": {**found, **(labels or {})},
        "annotations": {f"embellie.io/{key.replace('_', '-')}": text for key, text in notes.items()},
    }


def running_pod(
    name: str, on: str, *, gpus: int = 8, job_uid: str = "", started: datetime = NOW, **fields: Any
) -> PodRecord:
    """Return a pod that takes GPUs on a node; on no node with an empty name."""
    pod = PodRecord(
        uid=f"uid-{name}", namespace="research", name=name, job_uid=job_uid, node=on, gpus=gpus, watts_per_gpu="",
        created_at=started, started_at=started if on else None,
    )  # fmt: skip
    return replace(pod, **fields)


def forecast(zone: str, mean_g_per_kwh: Sequence[float] | None = None, *, start: datetime | None = None) -> Forecast:
    """Return an hourly forecast whose first slot holds NOW; without values 500 for six hours, then 100."""
    values = [500.0] * 6 + [100.0] * 42 if mean_g_per_kwh is None else mean_g_per_kwh
    mean = np.asarray(values, dtype=np.float64)
    return Forecast(
        zone=zone,
        issued_at=NOW - timedelta(minutes=20),
        start=start or NOW.replace(minute=0),
        step=timedelta(hours=1),
        quantile_levels=(0.1, 0.5, 0.9),
        carbon_intensity_g_per_kwh=np.stack([0.9 * mean, mean, 1.1 * mean]),
        carbon_intensity_mean_g_per_kwh=mean,
        renewable_share=np.full((3, len(mean)), 0.3),
        signal_kind=SignalKind.AVERAGE_LIFECYCLE,
        rung=Rung.LIVE,
        model_id="test",
    )


def view(*workloads: WorkloadRecord, pods: Sequence[PodRecord] = (), on: Sequence[NodeRecord] | None = None) -> View:
    """Return the store's view."""
    found = ("research", "vision", "kube-system", OWN_NAMESPACE)
    return View(
        workloads=workloads,
        pods=tuple(pods),
        nodes=tuple(nodes() if on is None else on),
        namespaces=tuple(NamespaceRecord(name=name, labels={}) for name in found),
        grid_zones=(),
        thermal_zones=(),
        energy_policies=(),
    )


def inputs(*workloads: WorkloadRecord, **changes: Any) -> Inputs:
    """Return a turn's inputs."""
    base = Inputs(
        view=view(*workloads),
        grid_zones=(grid_zone("west"), grid_zone("east")),
        thermal_zones=(),
        policies=(policy(),),
        forecasts={name: forecast(name) for name in ("west", "east")},
        grid_power={},
        inlets={},
        supplies={},
        bounds={},
        in_flight={},
        own_namespace=OWN_NAMESPACE,
        turn_s=15.0,
        period_s=15.0,
        max_limit_hold_s=3600.0,
    )
    return replace(base, **changes)


def assembled(*workloads: WorkloadRecord, now: datetime = NOW, clock: Clock | None = None, **changes: Any) -> Assembly:
    """Return the assembly of a turn."""
    return assemble(inputs(*workloads, **changes), clock or SystemClock(), now)


def only(*workloads: WorkloadRecord, **changes: Any) -> Workload:
    """Return the one workload that a turn decides about."""
    (workload,) = assembled(*workloads, **changes).snapshot.workloads
    return workload


def with_borders() -> tuple[GridZone, GridZone]:
    """Return the west in California and the east in France."""
    return grid_zone("west", jurisdiction="US-CA"), grid_zone("east", jurisdiction="FR")


def known(state: str = "Held", *, bound: datetime = NOW + timedelta(hours=23), **changes: Any) -> KnownPlan:
    """Return what is written about a workload."""
    plan = KnownPlan(
        latest_start=bound, policy="all", mode="enforce", state=state, reason="CleanerWindow", cell="west",
        planned_start="", generation=1, kept=b"{}", signature=None,
    )  # fmt: skip
    return replace(plan, **changes)
