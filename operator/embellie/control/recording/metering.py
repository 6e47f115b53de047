# SPDX-License-Identifier: Apache-2.0
"""Puts together what is known of a zone in an interval: samples out of Prometheus, gangs and nodes out of the cluster.

Nodes with GPUs that no GridZone selects are a zone of their own, `NO_ZONE`: their energy is counted and named, and has
no price, because nobody knows their grid.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from embellie.accounting.known import NO_ZONE, Gang, GpuMeter, Machine, Plant, Samples, ZoneInterval
from embellie.accounting.onsite import NO_METER, SHARED_METER
from embellie.accounting.overhead import OverheadModel
from embellie.api.gridsources import PlantMeter, PowerUnit
from embellie.api.gridzone import GridZone, GridZoneSpec, PowerSensor
from embellie.cluster.records import NodeRecord
from embellie.control.recording.prices import Prices
from embellie.control.recording.records import Scene
from embellie.control.recording.witness import PowerClasses, Witness, gangs_of
from embellie.domain import names
from embellie.domain.clock import Clock
from embellie.telemetry.energy import EnergySamples, EnergySource, PodName, Series

SAMPLES_PER_INTERVAL = 15
PAD_STEPS = 4
"""Samples are asked for so many steps beyond the interval: one falls on each of its edges."""
SILENCE = timedelta(hours=2)
"""For so long an interval waits for what comes after a silence of all meters, and so far beyond its edges is read."""
_NO_ZONE_SPEC = GridZoneSpec.model_construct(power_usage_effectiveness_percent=100)
"""The usual node, and no overhead: nobody states one."""


def nodes_without_zone(scene: Scene) -> tuple[NodeRecord, ...]:
    """Return the nodes with GPUs that belong to no GridZone, by name."""
    placed = scene.assembly.layout.cell_of_node
    return tuple(sorted((n for n in scene.view.nodes if n.gpus and n.name not in placed), key=lambda node: node.name))


class Metering:
    """Reads one interval after another. Lives on the recorder's thread."""

    def __init__(
        self,
        *,
        clock: Clock,
        source: EnergySource | None,
        witness: Witness,
        classes: PowerClasses,
        prices: Prices,
        team_label: str = "",
    ) -> None:
        self._clock, self._source, self._witness = clock, source, witness
        self._classes, self._prices, self._team_label = classes, prices, team_label
        self._heard: datetime | None = None
        """The newest sample of any GPU or node so far."""

    def samples(
        self, start: datetime, end: datetime, zones: Sequence[GridZone], pods: Mapping[PodName, str]
    ) -> EnergySamples | None:
        """Return what Prometheus knows of an interval; nothing where there is none. Waits for the network.

        Counters go on while nobody scrapes them: where samples are missing at an edge, those on the other side of the
        silence are read too. None while they may still come.
        """
        if self._source is None:
            return EnergySamples()
        step = (end - start) / SAMPLES_PER_INTERVAL
        pad = PAD_STEPS * step
        found = self._read(start - pad, end + pad, end - start, zones, pods)
        spans = self._spans(found)
        early = not spans or any(first > start + step / 10 for first, _ in spans)
        late = not spans or any(last < end - step / 10 for _, last in spans)
        if early or late:
            first, last = start - (SILENCE if early else pad), end + (SILENCE if late else pad)
            wide = self._read(first, last, end - start, zones, pods)
            if wider := self._spans(wide):
                found, spans = wide, wider
        newest = max((last for _, last in spans), default=self._heard)
        if newest is None:
            return found
        self._heard = max(newest, self._heard or newest)
        silent = newest < end - 2 * step
        return None if silent and newest > start - SILENCE and self._clock.now() < end + SILENCE else found

    def _read(
        self, first: datetime, last: datetime, length: timedelta, zones: Sequence[GridZone], pods: Mapping[PodName, str]
    ) -> EnergySamples:
        if self._source is None:
            return EnergySamples()
        queries = {z.metadata.name: z.spec.power_sensor.query for z in zones if z.spec.power_sensor is not None}
        return self._source.read(
            self._clock.to_wall(first),
            min(self._clock.to_wall(last), datetime.now(UTC)),
            self._clock.wall_seconds(length) / SAMPLES_PER_INTERVAL,
            zone_queries=queries,
            plant_queries={
                (zone.metadata.name, plant.name): plant.meter.query
                for zone in zones
                for plant in zone.spec.on_site
                if plant.meter is not None
            },
            pods=pods,
        )

    def _spans(self, samples: EnergySamples) -> list[tuple[datetime, datetime]]:
        """Return when each meter of a GPU or a node was first and last heard, in the operator's clock."""
        heard = [*(gpu.samples for gpu in samples.gpus.values()), *(node.at_s for node in samples.nodes.values())]
        ends = [(_moment(min(one)), _moment(max(one))) for one in heard if one]
        return [(self._clock.from_wall(first), self._clock.from_wall(last)) for first, last in ends]

    def zone(
        self,
        zone: GridZone,
        start: datetime,
        end: datetime,
        scene: Scene,
        samples: EnergySamples,
        overhead: OverheadModel,
    ) -> ZoneInterval:
        """Return a GridZone's interval."""
        nodes = scene.assembly.layout.nodes_of_grid_zone.get(zone.metadata.name, ())
        return self._interval(zone.metadata.name, zone.spec, nodes, start, end, scene, samples, overhead)

    def without_zone(
        self, nodes: Sequence[NodeRecord], start: datetime, end: datetime, scene: Scene, samples: EnergySamples
    ) -> ZoneInterval:
        """Return the interval of the nodes that belong to no GridZone."""
        return self._interval(NO_ZONE, _NO_ZONE_SPEC, nodes, start, end, scene, samples, OverheadModel.from_pue(1.0))

    def _interval(
        self,
        name: str,
        spec: GridZoneSpec,
        nodes: Sequence[NodeRecord],
        start: datetime,
        end: datetime,
        scene: Scene,
        samples: EnergySamples,
        overhead: OverheadModel,
    ) -> ZoneInterval:
        return ZoneInterval(
            zone=name,
            start=start,
            end=end,
            machines=tuple(self._machine(node, spec, samples) for node in nodes),
            gpus=self._gpus(nodes, samples),
            gangs=self._gangs(name, spec, nodes, scene, samples),
            meter=self._clocked(samples.zones.get(name), _watts(spec.power_sensor)),
            ambient_c=self._prices.ambient_c(name, start),
            overhead=overhead,
            prices=self._prices.of(name, start, end),
            tariff=self._prices.tariff(name, start, end),
            plants=self._plants(name, spec, scene, samples),
        )

    def _plants(self, zone: str, spec: GridZoneSpec, scene: Scene, samples: EnergySamples) -> tuple[Plant, ...]:
        everywhere = [one for other in scene.assembly.grid_zones for one in other.spec.on_site]
        named = Counter(one.meter.query for one in everywhere if one.meter is not None)
        found = []
        for one in spec.on_site:
            unread = NO_METER if one.meter is None else ""
            if one.meter is not None and named[one.meter.query] > 1:
                # Energy that two plants tell of counts in neither.
                unread = SHARED_METER
            meter = self._clocked(samples.plants.get((zone, one.name)), _watts(one.meter))
            peak_kw = float(one.peak_kilowatts)
            found.append(Plant(name=one.name, kind=str(one.kind), peak_kw=peak_kw, meter=meter, unread=unread))
        return tuple(found)

    def _machine(self, node: NodeRecord, spec: GridZoneSpec, samples: EnergySamples) -> Machine:
        return Machine(
            name=node.name,
            gpus=node.gpus,
            idle_w=float(spec.node_idle_power_watts),
            gpu_idle_w=float(spec.gpu_idle_power_watts),
            host_share=spec.host_overhead_percent / 100.0,
            product=node.labels.get(names.GPU_PRODUCT_LABEL, ""),
            power=self._clocked(samples.nodes.get(node.name)),
        )

    def _gpus(self, nodes: Sequence[NodeRecord], samples: EnergySamples) -> tuple[GpuMeter, ...]:
        mine = {node.name for node in nodes}
        return tuple(
            GpuMeter(
                node=gpu.node,
                samples=self._clocked_pairs(gpu.samples),
                counter=gpu.counter,
                holders=tuple(self._held(gpu.holders.get(at_s, {})) for at_s in sorted(gpu.samples)),
            )
            for gpu in samples.gpus.values()
            if gpu.node in mine
        )

    def _gangs(
        self, zone: str, spec: GridZoneSpec, nodes: Sequence[NodeRecord], scene: Scene, samples: EnergySamples
    ) -> tuple[Gang, ...]:
        cpu_of: dict[str, dict[str, tuple[Samples, ...]]] = {}
        for pod, series in samples.pod_cpu.items():
            uid, node = self._witness.pods.get(pod, ("", ""))
            if uid:
                of_gang = cpu_of.setdefault(uid, {})
                of_gang[node] = (*of_gang.get(node, ()), self._clocked(series))
        team_of = (
            {n.name: n.labels.get(self._team_label, "") for n in scene.view.namespaces} if self._team_label else {}
        )
        return gangs_of(
            list(self._witness.tracks.values()),
            {node.name: zone for node in nodes},
            zone,
            team_of=lambda namespace: team_of.get(namespace, ""),
            watts_of=lambda track: self._classes.watts(track, float(spec.gpu_rated_power_watts)),
            cpu_of=cpu_of,
        )

    def _held(self, holders: Mapping[tuple[str, str], float]) -> dict[str, float]:
        return {self._witness.pods[pod][0]: weight for pod, weight in holders.items() if pod in self._witness.pods}

    def _clocked(self, series: Series | None, factor: float = 1.0) -> Samples:
        if series is None:
            return Samples()
        return Samples(
            at_s=tuple(self._clock_s(at_s) for at_s in series.at_s), values=tuple(v * factor for v in series.values)
        )

    def _clocked_pairs(self, pairs: Mapping[float, float]) -> Samples:
        ordered = sorted(pairs)
        return Samples(at_s=tuple(self._clock_s(at) for at in ordered), values=tuple(pairs[at] for at in ordered))

    def _clock_s(self, wall_s: float) -> float:
        return self._clock.from_wall(_moment(wall_s)).timestamp()


def _watts(sensor: PowerSensor | PlantMeter | None) -> float:
    """Return how many watts one unit of a sensor is."""
    return 1000.0 if sensor is not None and sensor.unit == PowerUnit.KILOWATT else 1.0


def _moment(wall_s: float) -> datetime:
    return datetime.fromtimestamp(wall_s, UTC)
