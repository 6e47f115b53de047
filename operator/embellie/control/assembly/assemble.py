# SPDX-License-Identifier: Apache-2.0
"""Builds the Snapshot of a turn out of what the cluster, the sensors and the forecaster say. Pure."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from embellie.api.energypolicy import EnergyPolicy, EnergyPolicySpec
from embellie.api.gridzone import GridZone, GridZoneSpec
from embellie.api.thermalzone import ThermalZone
from embellie.cluster.records import WorkloadRecord
from embellie.cluster.store import View
from embellie.control.assembly.at_once import at_once
from embellie.control.assembly.inputs import Inputs
from embellie.control.assembly.layout import CellNodes, Layout, lay_out
from embellie.control.assembly.occupancy import Occupancy, expected_kw, occupancy, watts_or, worst_kw
from embellie.control.assembly.places import Places
from embellie.control.assembly.zone_states import grid_state, thermal_state
from embellie.control.work.durations import Duration, History, assumed, readable_duration
from embellie.control.work.policies import PolicyTable
from embellie.control.work.terms import Terms, read_terms
from embellie.domain import names
from embellie.domain.clock import Clock
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import Flex, Snapshot, Weights, Workload, WorkloadKey
from embellie.planning.bounds import tighten
from embellie.thermal.job_power import ClassPower, LearntPower

logger = logging.getLogger(__name__)

CPU_POD_KW = 0.3
"""What a pod without GPUs adds: enough to rank hours by; limits are about GPUs [kW]."""
_BOUND_THE_WAIT = (names.MAX_DELAY, names.DEADLINE, names.DURATION)
_DEFAULT_POLICY = EnergyPolicySpec()


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A workload under decision, with what belongs to it."""

    record: WorkloadRecord
    policy: EnergyPolicy | None
    terms: Terms
    workload: Workload
    refused_bound: datetime | None
    """A later bound that an edit asked for and that was refused."""
    rests_on: tuple[object, ...]
    """What else it was made of: while all of it is the same, the next turn need not make it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """A turn's snapshot and what is needed to carry its plan out."""

    snapshot: Snapshot
    shadow: Snapshot
    """The same cluster with the workloads that only shadow policies cover."""
    grid_zones: tuple[GridZone, ...]
    thermal_zones: tuple[ThermalZone, ...]
    subjects: Mapping[WorkloadKey, Subject]
    cells: Mapping[str, CellNodes]
    layout: Layout
    occupancy: Occupancy
    table: PolicyTable
    learnt: LearntPower
    """What jobs draw, from what ran before."""
    places: Places


def assemble(
    inputs: Inputs, clock: Clock, now: datetime, before: Mapping[WorkloadKey, Subject] | None = None
) -> Assembly:
    """Build the snapshot; `now` is in the operator's clock.

    `before` are the subjects of the last turn: with them the same is found sooner, and nothing else.
    """
    layout = lay_out(inputs.grid_zones, inputs.thermal_zones, inputs.view.nodes)
    specs = {z.metadata.name: z.spec for z in inputs.grid_zones}
    table = PolicyTable(inputs.policies, inputs.view.namespaces, inputs.own_namespace)
    history = History(inputs.view.workloads, clock.from_wall)
    occupied = occupancy(inputs, layout, clock.from_wall, now, lambda record: _running_duration(record, history, table))
    places = Places(layout, specs)
    desk = _SubjectDesk(inputs, clock, places, history, before or {})
    subjects: dict[WorkloadKey, Subject] = {}
    for record in inputs.view.workloads:
        if not _is_subject(record, inputs):
            continue
        policy = table.match(record)
        if record.held or (policy is not None and not policy.enforces):
            subjects[record.key] = desk.subject(record, policy)

    def snapshot(enforced: bool) -> Snapshot:
        return Snapshot(
            now=now,
            turn_s=inputs.turn_s,
            period_s=inputs.period_s,
            workloads=tuple(s.workload for s in subjects.values() if s.workload.enforced is enforced),
            cells=occupied.cells,
            grid_zones=tuple(grid_state(z, layout, inputs) for z in inputs.grid_zones),
            thermal_zones=tuple(thermal_state(z, layout, inputs, specs) for z in inputs.thermal_zones),
            running=occupied.running,
            max_limit_hold_s=inputs.max_limit_hold_s,
            max_held_gpus=_held_limits(inputs.view, table),
            tenants=dict(inputs.tenants),
        )

    return Assembly(
        snapshot=snapshot(True),
        shadow=snapshot(False),
        grid_zones=inputs.grid_zones,
        thermal_zones=inputs.thermal_zones,
        subjects=subjects,
        cells={c.name: c for c in layout.cells},
        layout=layout,
        occupancy=occupied,
        table=table,
        learnt=inputs.learnt,
        places=places,
    )


def _is_subject(record: WorkloadRecord, inputs: Inputs) -> bool:
    """Held and still waiting; or opted in, untouched, and not yet recorded: shadow decides once, at first sight."""
    if record.finished or record.key.uid in inputs.in_flight:
        return False
    if record.held:
        return record.waiting and not record.queued and not record.paused
    seen = record.key.uid in inputs.bounds
    new = not record.waiting and names.RELEASED_AT not in record.annotations and not seen
    return new and record.opted_in and not record.exempt


@dataclass(frozen=True, slots=True)
class _SubjectDesk:
    """Reads what is under decision in one turn."""

    inputs: Inputs
    clock: Clock
    places: Places
    history: History
    before: Mapping[WorkloadKey, Subject]
    """Those of the last turn."""

    def subject(self, record: WorkloadRecord, policy: EnergyPolicy | None) -> Subject:
        """Read one workload; if that fails in a way nobody thought of, it starts at once and all others are planned."""
        try:
            return self._read(record, policy, self.before.get(record.key))
        except Exception:  # a boundary: one user's object must not end the turn, and with it everybody's
            logger.exception("%s/%s cannot be read and starts at once", record.key.namespace, record.key.name)
            residency = record.annotations.get(names.RESIDENCY)
            bare = replace(record, annotations={names.RESIDENCY: residency} if residency else {})
            subject = self._read(bare, policy, None)
            message = "It starts at once: its annotations cannot be read; compare them with docs/submit-a-job.md."
            workload = replace(
                subject.workload,
                latest_start=min(subject.workload.latest_start, subject.workload.created_at),
                start_now=Reason.INVALID_ANNOTATION,
                start_now_message=message,
            )
            return replace(subject, workload=workload)

    def _read(self, record: WorkloadRecord, policy: EnergyPolicy | None, before: Subject | None) -> Subject:
        created_at = self.clock.from_wall(record.created_at)
        promised = self.inputs.bounds.get(record.key.uid)
        past = self.history.of(record.key.namespace)
        allowed = self.places.usable(record)
        grid_spec = self.places.spec_for(allowed)
        known = self.inputs.learnt.class_power(record.key.namespace, record.key.name)
        rests_on = (promised, created_at, past, known, allowed, grid_spec)
        # Where no place is allowed, the layout says why; the rest is in the record and its policy, which never change.
        if (
            before is not None
            and allowed
            and before.record is record
            and before.policy is policy
            and before.rests_on == rests_on
        ):
            return before
        spec = policy.spec if policy else _DEFAULT_POLICY
        terms = read_terms(record.flex, record.annotations, created_at, spec, past)
        start_now, message = at_once(record, policy, terms, allowed, self.places)
        power_kw, worst_power_kw = _power_kw(record, grid_spec, known)
        workload = Workload(
            key=record.key,
            created_at=created_at,
            latest_start=tighten(promised, terms.latest_start),
            pods=record.pods,
            gpus_per_pod=record.gpus_per_pod,
            power_kw=power_kw,
            worst_power_kw=worst_power_kw,
            duration_p50_s=terms.duration.p50.total_seconds(),
            duration_p90_s=terms.duration.p90.total_seconds(),
            flex=Flex(record.flex) if record.opted_in else Flex.RIGID,
            tenant=record.key.namespace,
            policy=policy.metadata.name if policy else "",
            enforced=record.held,
            allowed_cells=allowed,
            minimum_saving_percent=float(spec.minimum_saving_percent),
            weights=Weights(
                carbon=float(spec.weights.carbon_percent),
                cost=float(spec.weights.cost_percent),
                renewable=float(spec.weights.renewable_percent),
            ),
            start_now=start_now,
            start_now_message=message,
        )
        return Subject(
            record=record,
            policy=policy,
            terms=terms,
            workload=workload,
            refused_bound=_refused_bound(promised, terms, record, before.record if before else record),
            rests_on=rests_on,
        )


def _power_kw(record: WorkloadRecord, spec: GridZoneSpec, known: ClassPower | None) -> tuple[float, float]:
    """Return what a workload adds, expected and at worst [kW]: as learnt, else as declared."""
    declared = watts_or(record.annotations.get(names.WATTS_PER_GPU, ""), spec.gpu_rated_power_watts)
    cpu_kw = 0.0 if record.gpus else CPU_POD_KW * record.pods
    expected = expected_kw(record.gpus, declared if known is None else known.mean_w, spec)
    worst = worst_kw(record.gpus, spec, None if known is None else known.worst_w())
    return expected + cpu_kw, worst + cpu_kw


def _refused_bound(
    promised: datetime | None, terms: Terms, record: WorkloadRecord, before: WorkloadRecord
) -> datetime | None:
    """Return a later bound that an edit asks for: a guessed duration may shrink by itself, what is written may not."""
    later = promised is not None and terms.latest_start > promised + timedelta(seconds=1)
    edited = any(record.annotations.get(name) != before.annotations.get(name) for name in _BOUND_THE_WAIT)
    return terms.latest_start if later and (terms.duration.stated or edited) else None


def _running_duration(record: WorkloadRecord | None, history: History, table: PolicyTable) -> Duration:
    """How long running work is taken to last: stated, else as its like did, else as its policy assumes."""
    if record is None:
        return assumed(_DEFAULT_POLICY.assumed_duration_seconds)
    known = history.of(record.key.namespace).expects(readable_duration(record.annotations))
    if known is not None:
        return known
    policy = table.match(record)
    return assumed((policy.spec if policy else _DEFAULT_POLICY).assumed_duration_seconds)


def _held_limits(view: View, table: PolicyTable) -> dict[str, float]:
    """Most GPUs that each policy may hold: a share of all the unfinished GPUs that opted in under it."""
    percents = {p.metadata.name: p.spec.max_held_percent for p in table.policies if p.spec.max_held_percent < 100}
    subject_gpus = dict.fromkeys(percents, 0)
    for record in view.workloads if percents else ():
        if record.finished or not (record.opted_in or record.held):
            continue
        policy = table.match(record)
        if policy is not None and policy.metadata.name in subject_gpus:
            subject_gpus[policy.metadata.name] += record.gpus
    return {name: gpus * percents[name] / 100.0 for name, gpus in subject_gpus.items()}
