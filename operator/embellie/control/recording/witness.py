# SPDX-License-Identifier: Apache-2.0
"""Sees gangs come and go, and what their GPUs are taken to draw where nothing measures it. Pure."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from embellie.accounting.known import Gang, Samples, Stay
from embellie.cluster.records import PodRecord, WorkloadRecord
from embellie.cluster.store import View
from embellie.control.assembly.layout import Layout
from embellie.control.assembly.occupancy import watts_or
from embellie.domain import names
from embellie.ledger import Draft, Kind


@dataclass(slots=True)
class _Seat:
    node: str
    gpus: int
    start: datetime
    end: datetime | None = None


@dataclass(slots=True)
class Track:
    """One gang as it is seen, turn by turn. Times are the operator's clock."""

    uid: str
    namespace: str
    name: str
    kind: str
    flex: str
    submitted: datetime
    latest_start: datetime | None
    stated_watts: str
    class_watts: float | None = None
    """What a GPU of jobs of this name draws, as learnt from telemetry; None until enough ran [W]."""
    began: datetime | None = None
    """When it first started, where that was told before a restart; None where nobody told."""
    seats: dict[str, _Seat] = field(default_factory=dict)
    """By pod uid."""

    @property
    def start(self) -> datetime:
        """When its first pod started."""
        first = min(seat.start for seat in self.seats.values())
        return first if self.began is None else min(first, self.began)

    @property
    def ended(self) -> datetime | None:
        """When the last pod went; None while one is there."""
        ends = [seat.end for seat in self.seats.values()]
        return None if not ends or None in ends else max(end for end in ends if end is not None)

    @property
    def stays(self) -> tuple[Stay, ...]:
        """Its pods' stays; those that are still there have no end."""
        return tuple(
            Stay(node=s.node, gpus=s.gpus, start_s=s.start.timestamp(), end_s=s.end.timestamp() if s.end else math.inf)
            for s in self.seats.values()
        )


class Witness:
    """Sees gangs come and go. What a restart forgets, the pods that still run tell again."""

    def __init__(self) -> None:
        self.tracks: dict[str, Track] = {}
        self.pods: dict[tuple[str, str], tuple[str, str]] = {}
        """Pod (namespace, name) -> its gang and its node; kept as long as the gang."""
        self._leads = False

    def look(
        self,
        view: View,
        now: datetime,
        from_wall: Callable[[datetime], datetime],
        bounds: Mapping[str, datetime],
    ) -> list[Track]:
        """Take in what is there now; return the gangs that ended since."""
        workloads = {workload.key.uid: workload for workload in view.workloads}
        present: set[str] = set()
        for pod in view.pods:
            if not pod.node or not pod.gpus:
                continue
            present.add(pod.uid)
            uid = pod.job_uid or pod.uid
            track = self.tracks.get(uid)
            if track is None:
                track = self.tracks[uid] = _track(pod, workloads.get(uid), from_wall, bounds.get(uid))
            if pod.uid not in track.seats:
                # A pod that is bound holds its GPUs, also while its images are pulled.
                began = min(now, from_wall(pod.started_at or pod.created_at))
                track.seats[pod.uid] = _Seat(pod.node, pod.gpus, began)
            self.pods[pod.namespace, pod.name] = (uid, pod.node)
        ended = []
        for track in self.tracks.values():
            before = track.ended
            for pod_uid, seat in track.seats.items():
                if pod_uid not in present and seat.end is None:
                    seat.end = max(seat.start, now)
            if before is None and track.ended is not None:
                ended.append(track)
        return ended

    def lead(
        self,
        view: View,
        now: datetime,
        from_wall: Callable[[datetime], datetime],
        bounds: Mapping[str, datetime],
    ) -> tuple[list[Track], list[Track]]:
        """Take in what is there now; return the gangs that came and those that ended since the last turn.

        At the first turn that this replica leads these are all that it has seen.
        """
        tracks = self.tracks
        known = {uid for uid, track in tracks.items() if track.ended is None} if self._leads else set()
        ended = self.look(view, now, from_wall, bounds)
        if not self._leads:
            self._leads, ended = True, [track for track in tracks.values() if track.ended is not None]
            for uid, track in tracks.items():
                track.latest_start = bounds.get(uid)  # nobody knew what another leader promised
        return [track for uid, track in tracks.items() if track.ended is None and uid not in known], ended

    def forget(self, before: datetime) -> None:
        """Drop gangs that ended before an instant."""
        gone = {uid for uid, track in self.tracks.items() if (end := track.ended) is not None and end < before}
        for uid in gone:
            del self.tracks[uid]
        self.pods = {pod: place for pod, place in self.pods.items() if place[0] not in gone}


def _track(
    pod: PodRecord, workload: WorkloadRecord | None, from_wall: Callable[[datetime], datetime], bound: datetime | None
) -> Track:
    made = workload.created_at if workload else pod.created_at
    stated = pod.watts_per_gpu or (workload.annotations.get(names.WATTS_PER_GPU, "") if workload else "")
    return Track(
        uid=pod.job_uid or pod.uid,
        namespace=pod.namespace,
        name=workload.key.name if workload else pod.name,
        kind=str(workload.key.kind) if workload else "Pod",
        flex=workload.flex if workload else "",
        submitted=from_wall(made),
        latest_start=bound,
        stated_watts=stated,
    )


def run_draft(
    track: Track, layout: Layout, now: datetime, *, added_kw: float, watts_per_gpu: float, metered_gpu_hours: float
) -> Draft:
    """Return the record of a gang: what counterfactuals are replayed from.

    Args:
        track: The gang, running or ended.
        layout: Which cell its nodes are in.
        now: The present, on the operator's clock.
        added_kw: What it adds to its idle nodes, on the mean [kW].
        watts_per_gpu: What one of its GPUs draws [W].
        metered_gpu_hours: GPU-hours on which that was measured; 0 for an assumption.
    """
    seats = list(track.seats.values())
    cells = sorted({layout.cell_of_node.get(seat.node, "") for seat in seats})
    start, end = track.start, track.ended or now
    # Each pod is one seat; pods that were made anew after a failure are further seats of the same size.
    at_once = max(sum(s.gpus for s in seats if s.start <= seat.start < (s.end or now)) for seat in seats)
    return Draft(
        kind=Kind.RUN,
        at=now,
        body={
            "uid": track.uid,
            "namespace": track.namespace,
            "kind": track.kind,
            "name": track.name,
            "flex": track.flex,
            "submitted": track.submitted,
            "start": max(track.submitted, start),
            "end": max(track.submitted, end),
            "latestStart": track.latest_start,
            "gpus": at_once or seats[0].gpus,
            "gpusPerPod": seats[0].gpus,
            "cell": cells[0],
            "cells": cells,
            "addedKw": added_kw,
            "wattsPerGpu": watts_per_gpu,
            "meteredGpuHours": metered_gpu_hours,
            "running": track.ended is None,
        },
    )


def gangs_of(
    tracks: Sequence[Track],
    nodes: Mapping[str, str],
    zone: str,
    *,
    team_of: Callable[[str], str],
    watts_of: Callable[[Track], float],
    cpu_of: Mapping[str, Mapping[str, tuple[Samples, ...]]],
) -> tuple[Gang, ...]:
    """Return the gangs of one zone for an account.

    Args:
        tracks: All gangs.
        nodes: Node -> its zone.
        zone: The zone.
        team_of: Namespace -> its team.
        watts_of: What one GPU of a gang is taken to draw where nothing measures it [W].
        cpu_of: Gang -> node -> energy counters of its pods' processors [J].
    """
    gangs = []
    for track in tracks:
        stays = tuple(stay for stay in track.stays if nodes.get(stay.node) == zone)
        if stays:
            gangs.append(
                Gang(
                    uid=track.uid,
                    namespace=track.namespace,
                    name=track.name,
                    kind=track.kind,
                    team=team_of(track.namespace),
                    stays=stays,
                    watts_per_gpu=watts_of(track),
                    cpu=cpu_of.get(track.uid, {}),
                )
            )
    return tuple(gangs)


@dataclass(slots=True)
class PowerClasses:
    """What a GPU of a namespace draws, learnt from its metered gangs, over restarts: they are in the ledger [W]."""

    sums: dict[str, tuple[float, float]] = field(default_factory=dict)

    def learn(self, namespace: str, watts: float, gpu_hours: float) -> None:
        """Take in one metered gang."""
        if 10.0 <= watts <= 5000.0 and gpu_hours > 0.0:
            total, weight = self.sums.get(namespace, (0.0, 0.0))
            # Old work counts for less and less: about the last two hundred GPU-hours stay.
            keep = min(1.0, 200.0 / (weight + gpu_hours))
            self.sums[namespace] = ((total + watts * gpu_hours) * keep, (weight + gpu_hours) * keep)

    def watts(self, track: Track, rated_w: float) -> float:
        """Return what a GPU of a gang is taken to draw: as jobs of its name, as its namespace, as stated, as rated."""
        if track.class_watts is not None:
            return track.class_watts
        total, weight = self.sums.get(track.namespace, (0.0, 0.0))
        if weight >= 1.0:
            return total / weight
        return watts_or(track.stated_watts, rated_w)
