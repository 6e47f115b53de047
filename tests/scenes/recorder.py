# SPDX-License-Identifier: Apache-2.0
"""A recorder on a clock that is moved by hand, with its Prometheus, a node and a pod."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

from embellie.api.energypolicy import EnergyPolicy
from embellie.api.gridzone import GridZone
from embellie.cluster.plan_objects import PlanRecord
from embellie.cluster.records import NamespaceRecord, NodeRecord, PodRecord
from embellie.cluster.store import View
from embellie.control.assembly.assemble import Assembly, assemble
from embellie.control.assembly.inputs import Inputs
from embellie.control.recording.ledger_writer import LedgerOptions, Recorder
from embellie.domain.clock import SystemClock
from embellie.domain.reasons import Reason, State
from embellie.domain.snapshot import WorkloadKey, WorkloadKind
from embellie.ledger import Kind, LedgerReader, verify
from embellie.telemetry.energy import EnergySamples, Series
from embellie.thermal.job_power import LearntPower, NothingLearnt

T0 = datetime(2026, 7, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
NOTHING = NothingLearnt()


class Hand(SystemClock):
    """A clock that a test moves by hand."""

    def __init__(self, now: datetime) -> None:
        self.moment = now

    def now(self) -> datetime:
        return self.moment


class Meters:
    """A Prometheus that knows each node's power, and can be away."""

    def __init__(self) -> None:
        self.away = False
        self.zone_w = 7200.0
        self.node_w: float | None = 6000.0
        self.plants: dict[tuple[str, str], Callable[[float], float]] = {}
        """What a plant's meter says at an instant."""

    def read(self, start: datetime, end: datetime, step_s: float, **_: Any) -> EnergySamples:
        samples = EnergySamples()
        if not self.away:
            at = [start.timestamp() + k * step_s for k in range(int((end - start).total_seconds() / step_s) + 1)]
            if self.node_w is not None:
                samples.nodes["n1"] = Series(at, [self.node_w] * len(at))
            samples.zones["west"] = Series(list(at), [self.zone_w] * len(at))
            for plant, says in self.plants.items():
                samples.plants[plant] = Series(list(at), [says(at_s) for at_s in at])
        return samples


def grid_zone(name: str = "west", unit: str = "Watt", **more: Any) -> GridZone:
    return GridZone.model_validate(
        {
            "apiVersion": "embellie.io/v1alpha1",
            "kind": "GridZone",
            "metadata": {"name": name},
            "spec": {
                "nodeSelector": {"zone": name},
                "powerSensor": {"query": "facility", "unit": unit},
                **more,
            },
        }
    )


def pod(node: str = "n1", uid: str = "p1", job: str = "j1") -> PodRecord:
    return PodRecord(
        uid=uid, namespace="ml", name=uid, job_uid=job, node=node, gpus=8, watts_per_gpu="600",
        created_at=T0 - HOUR, started_at=T0 - HOUR,
    )  # fmt: skip


def view(*pods: PodRecord) -> View:
    return View(
        workloads=(),
        pods=pods,
        nodes=(NodeRecord(name="n1", labels={"zone": "west"}, gpus=8, schedulable=True),),
        namespaces=(NamespaceRecord(name="ml", labels={"team": "vision"}),),
        grid_zones=(),
        thermal_zones=(),
        energy_policies=(),
    )


def assembly(seen: View, clock: Hand, *policies: EnergyPolicy, unit: str = "Watt", **zone: Any) -> Assembly:
    inputs: dict[str, Any] = {
        "view": seen, "grid_zones": (grid_zone(unit=unit, **zone),), "thermal_zones": (), "policies": policies,
        "forecasts": {},
        "grid_power": {}, "inlets": {}, "supplies": {}, "bounds": {}, "in_flight": {}, "own_namespace": "embellie",
        "turn_s": 15.0, "period_s": 15.0, "max_limit_hold_s": 3600.0,
    }  # fmt: skip
    return assemble(Inputs(**inputs), clock, clock.now())


def record(state: State = State.HELD, reason: Reason = Reason.CLEANER_WINDOW, uid: str = "w1") -> PlanRecord:
    return PlanRecord(
        key=WorkloadKey(namespace="ml", name="train", kind=WorkloadKind.JOB, uid=uid), latest_start=T0 + 6 * HOUR,
        policy="p", mode="enforce", state=state, reason=reason, message='Waits: "quoted"\nand on.', cell="west",
        grid_zone="west", planned_start=T0 + HOUR, likely_start_p50=None, likely_start_p90=None, now_g=100.0,
        planned_g=80.0, planned_low_g=70.0, planned_high_g=95.0, energy_wh=1000.0, gpus=8,
    )  # fmt: skip


class Desk:
    """A recorder on a clock that is moved by hand, run step by step instead of on its thread."""

    opened: ClassVar[list["Desk"]] = []
    """What a test opened; closed behind it."""

    def __init__(self, folder: Path, clock: Hand, meters: Meters, **options: Any) -> None:
        self.path = folder / "ledger.sqlite"
        self.clock, self.leads, self.unit = clock, True, "Watt"
        self.zone: dict[str, Any] = {}
        """What the GridZone's spec says besides."""
        self.recorder = Recorder(
            LedgerOptions(path=self.path, **options), clock=clock, source=meters, exchange=folder, identity="me",  # type: ignore[arg-type]
            is_leader=lambda: self.leads,
        )  # fmt: skip
        # Reports of savings come by real time, from processes of their own: never here, however slow the machine is.
        self.recorder._savings._next_at = math.inf
        self.opened.append(self)

    def turn(
        self,
        *records: PlanRecord,
        seen: View | None = None,
        policies: tuple[EnergyPolicy, ...] = (),
        learnt: LearntPower = NOTHING,
    ) -> None:
        seen = seen or view(pod())
        self.recorder.turn(
            assembly(seen, self.clock, *policies, unit=self.unit, **self.zone), seen, records, {}, learnt
        )
        self.recorder._retry_at = 0.0
        self.recorder._once()

    def turns(self, count: int, step: timedelta, **told: Any) -> None:
        """Take so many turns, and let so much time go by after each."""
        for _ in range(count):
            self.turn(**told)
            self.clock.moment += step

    def stop(self) -> None:
        if self.recorder._ledger is not None:
            self.recorder._ledger.close()

    def entries(self, *kinds: Kind) -> list[dict[str, Any]]:
        with LedgerReader(self.path) as reader:
            assert verify(
                reader.entries(), reader.entries(kinds=[Kind.DAILY]), head=(reader.head.seq, reader.head.hash)
            ).sound
            return [entry.content for entry in reader.entries(kinds=kinds)]
