# SPDX-License-Identifier: Apache-2.0
"""Pausing work that allows it: announce, wait for its checkpoint or the announced instant, suspend, resume. Pure.

Only Jobs with the annotation `embellie.io/checkpoint` are paused, under an enforcing policy with `maxPausesPerDay`, and
only because their thermal zone heats in spite of everything. A pause is no hold: `latestStart` has been kept, and the
pause has a bound of its own, `maxLimitHold`. What is announced and what is paused stands on the Job itself, so that a
new leader goes on where the last one stopped.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from embellie.api.energypolicy import EnergyPolicy
from embellie.cluster.records import PodRecord, WorkloadRecord
from embellie.control.assembly.assemble import Assembly
from embellie.control.assembly.occupancy import worst_kw
from embellie.control.deciding.pause_acts import Announcement, Pauses, Reminder, Resumption, Suspension, Withdrawal
from embellie.control.work.checkpoints import Checkpoint, read_checkpoint
from embellie.domain import names
from embellie.domain.plan import Decision
from embellie.domain.snapshot import RunningGang, WorkloadKind
from embellie.domain.times import format_time, parse_time
from embellie.thermal import Rises
from embellie.thermal.raising import BACK_S
from embellie.thermal.relief import KNEE_SHARE, HeatLoad

DAY = timedelta(days=1)
TELLING_LASTS = timedelta(minutes=10)
"""Many pods are told over several turns, each of an instant that leaves a checkpoint its time from then on. One whose
instant is over for so long is told anew: it may have worked on, and saved nothing since."""
_CLOCKS_DIFFER = timedelta(minutes=1)
"""Those of two leaders, at most; nothing was paused later than that after now."""


def declared(record: WorkloadRecord) -> Checkpoint | None:
    """Return what a Job says of its checkpoints; None where it allows no pause or cannot be read."""
    stated = record.annotations.get(names.CHECKPOINT)
    if stated is None or record.key.kind is not WorkloadKind.JOB or not record.opted_in or record.exempt:
        return None
    try:
        return read_checkpoint(stated)
    except ValueError:
        return None


def heat_loads(
    assembly: Assembly, workloads: Sequence[WorkloadRecord], pods: Iterable[PodRecord], now: datetime
) -> tuple[HeatLoad, ...]:
    """Describe what runs in thermal zones, and what can be done about it. Times are in the operator's clock."""
    zones = {c.name: c.thermal_zone for c in assembly.snapshot.cells}
    if not any(zones.values()):
        return ()
    records = {w.key.uid: w for w in workloads}
    specs = {z.metadata.name: z.spec for z in assembly.grid_zones}
    grid = {c.name: c.grid_zone for c in assembly.snapshot.cells}
    nodes: defaultdict[str, set[str]] = defaultdict(set)
    agents = _nodes_with_agent(assembly)
    for pod in pods:
        nodes[pod.job_uid or pod.uid].add(pod.node)
        if pod.node in agents:
            owner = records.get(pod.job_uid or pod.uid)
            if owner is None or _enforcing(owner, assembly) is None:
                agents.remove(pod.node)
    allowance = _Allowance(assembly, workloads, now)
    found = []
    for gang in assembly.snapshot.running:
        zone, record = zones.get(gang.cell), records.get(gang.uid)
        if zone is None or record is None:
            continue
        spec = specs[grid[gang.cell]]
        rated_w = float(spec.gpu_rated_power_watts)
        # What was announced under the limit is carried through.
        may = names.PAUSE_BY in record.annotations or allowance.allows(gang.uid)
        checkpoint = declared(record) if may else None
        since = gang.started_at
        if checkpoint is not None and checkpoint.every is not None:
            since += checkpoint.every * max(0, (now - since) // checkpoint.every)
        found.append(
            HeatLoad(
                key=gang.uid,
                zone=zone,
                nodes=tuple(sorted(nodes[gang.uid] - {""})),
                gpus=gang.gpus,
                power_kw=gang.power_kw,
                priority=0 if record.flex == "bonus" else 1,
                pausable=checkpoint is not None,
                checkpoint_s=checkpoint.takes.total_seconds() if checkpoint is not None else 0.0,
                last_checkpoint=since if checkpoint is not None else None,
                started_at=gang.started_at,
                rated_w=rated_w,
                idle_w=float(spec.gpu_idle_power_watts),
                host_share=spec.host_overhead_percent / 100.0,
                knee_w=KNEE_SHARE * rated_w,
                # A cap is for all GPUs of a node: it must not slow down work that did not opt in.
                capable=bool(nodes[gang.uid]) and nodes[gang.uid] <= agents,
            )
        )
    return tuple(found)


def noted_pauses(assembly: Assembly, workloads: Iterable[WorkloadRecord]) -> dict[str, set[str]]:
    """Return the uids of what stands as told to pause or as paused, by thermal zone."""
    zones = {c.name: c.thermal_zone for c in assembly.snapshot.cells}
    runs = {gang.uid: gang.cell for gang in assembly.snapshot.running}
    found: defaultdict[str, set[str]] = defaultdict(set)
    for record in workloads:
        if record.paused:
            zone = zones.get(record.annotations.get(names.CELL, ""))
        elif names.PAUSE_BY in record.annotations:
            zone = zones.get(runs.get(record.key.uid, ""))
        else:
            continue
        if zone is not None:
            found[zone].add(record.key.uid)
    return dict(found)


def _enforcing(record: WorkloadRecord, assembly: Assembly) -> EnergyPolicy | None:
    """Return the policy that enforces on work which opted in; None for all other work."""
    policy = assembly.table.match(record) if record.opted_in else None
    return policy if policy is not None and policy.enforces else None


def _nodes_with_agent(assembly: Assembly) -> set[str]:
    """Return the nodes on which something carries PowerCaps out."""
    zones = assembly.layout.nodes_of_thermal_zone.values()
    return {node.name for nodes in zones for node in nodes if node.labels.get(names.POWER_CAP_AGENT_LABEL) == "true"}


def step(
    assembly: Assembly,
    workloads: Sequence[WorkloadRecord],
    pods: Collection[PodRecord],
    wanted: Collection[str],
    in_flight: Collection[str],
    now: datetime,
    releases: Iterable[Decision] = (),
) -> Pauses:
    """Return what is to be done now.

    Args:
        assembly: This turn's.
        workloads: All that the store knows.
        pods: Those that use GPUs.
        wanted: uids that heat asks to be paused.
        in_flight: uids that were started a moment ago and that the watch has not shown yet.
        now: In the operator's clock.
        releases: What the same turn starts: its heat counts before anything goes on.
    """
    present = [w for w in workloads if w.key.uid not in in_flight]
    resume, standing = _of_paused([w for w in present if w.paused], assembly, wanted, now, releases)
    others = [w for w in present if not (w.held or w.finished)]
    # Pods hear of it first: where whoever told them was stopped there, their Job says nothing of it.
    concerned = {*wanted, *(pod.job_uid for pod in pods if pod.hears and pod.told)}
    running = [w for w in others if not w.waiting and (w.key.uid in concerned or names.PAUSE_BY in w.annotations)]
    # In nearly every turn nothing is asked to pause and nothing was announced.
    pauses = _of_running(running, assembly, workloads, pods, wanted, now) if running else Pauses()
    # Its user suspended it since: its next run begins with time for a checkpoint.
    over = (w for w in others if w.waiting and names.PAUSE_BY in w.annotations and declared(w))
    return replace(
        pauses,
        withdraw=pauses.withdraw + tuple(Withdrawal(key=w.key, listeners=()) for w in over),
        resume=resume,
        standing=standing,
        under_way=pauses.under_way | {record.key.uid for record in standing},
    )


def _of_paused(
    paused: Sequence[WorkloadRecord],
    assembly: Assembly,
    wanted: Collection[str],
    now: datetime,
    releases: Iterable[Decision],
) -> tuple[tuple[Resumption, ...], tuple[WorkloadRecord, ...]]:
    """Return what of paused work goes on, one after the other, and what stays."""
    if not paused:
        return (), ()
    resume, standing = [], []
    rises = Rises(assembly.snapshot, releases)
    for record in paused:
        goes_on = _resumption(record, assembly, rises, record.key.uid in wanted, now)
        if goes_on is not None:
            resume.append(goes_on)
        else:
            standing.append(record)
    return tuple(resume), tuple(standing)


def _of_running(
    running: Sequence[WorkloadRecord],
    assembly: Assembly,
    workloads: Sequence[WorkloadRecord],
    pods: Iterable[PodRecord],
    wanted: Collection[str],
    now: datetime,
) -> Pauses:
    """Return what is to be done about work that runs and is asked or told to pause."""
    of_job: defaultdict[str, list[PodRecord]] = defaultdict(list)
    for pod in pods:
        of_job[pod.job_uid].append(pod)
    gangs = {gang.uid: gang for gang in assembly.snapshot.running}
    allowance = _Allowance(assembly, workloads, now)
    announce, remind, suspend, withdraw = [], [], [], []
    under_way: set[str] = set()
    for record in running:
        uid = record.key.uid
        announced, checkpoint = record.annotations.get(names.PAUSE_BY), declared(record)
        listeners = tuple(pod for pod in of_job[uid] if pod.hears)
        if announced is None:
            told = tuple(pod for pod in listeners if _was_told(pod, gangs.get(uid)))
            if uid in wanted and checkpoint is not None and allowance.allows(uid):
                allowance.take(uid)
                under_way.add(uid)
                know = frozenset(pod for pod in told if _is_current(pod, now, checkpoint))
                new, old = (tuple(pod for pod in listeners if (pod in know) is knows) for knows in (False, True))
                announce.append(Announcement(key=record.key, takes=checkpoint.takes, listeners=new, told=old))
            elif told and record.opted_in:
                withdraw.append(Withdrawal(key=record.key, listeners=told))
        elif uid not in wanted or checkpoint is None or _enforcing(record, assembly) is None:
            # What does not allow pauses may not be written to, whatever it carries; its pods may have been told.
            told = tuple(pod for pod in listeners if pod.told)
            written_to = names.CHECKPOINT in record.annotations or bool(told)
            if written_to and _may_be_ours(record, announced, gangs.get(uid)):
                withdraw.append(Withdrawal(key=record.key, listeners=told))
        else:
            under_way.add(uid)
            cell = gangs[uid].cell if uid in gangs else ""
            by = parse_time(announced) or now
            know = frozenset(pod for pod in listeners if pod.told == announced or _is_current(pod, by, checkpoint))
            stops = _suspension(record, of_job[uid], know, announced, cell, now)
            late = tuple(pod for pod in listeners if pod not in know)
            if stops is not None:
                suspend.append(stops)
            elif late:
                remind.append(Reminder(key=record.key, announced=announced, listeners=late))
    return Pauses(
        announce=tuple(announce),
        remind=tuple(remind),
        suspend=tuple(suspend),
        withdraw=tuple(withdraw),
        under_way=frozenset(under_way),
    )


def _was_told(pod: PodRecord, gang: RunningGang | None) -> bool:
    """Tell whether a pod was told while it ran: what its template was copied with is older."""
    by = parse_time(pod.told)
    return by is not None and (gang is None or by > gang.started_at)


def _is_current(pod: PodRecord, at: datetime, checkpoint: Checkpoint) -> bool:
    """Tell whether a pod was told of a pause that is announced at that time, or for it."""
    by = parse_time(pod.told)
    return by is not None and at - TELLING_LASTS < by < at + checkpoint.takes + TELLING_LASTS


def _may_be_ours(record: WorkloadRecord, announced: str, gang: RunningGang | None) -> bool:
    """Tell whether we may have announced a pause to work: to what does not opt in, only while it has been running.

    Admission takes copied announcements off work that opts in; other work keeps what its manifest was copied with.
    """
    by = parse_time(announced)
    return record.opted_in or (gang is not None and by is not None and by > gang.started_at)


class _Allowance:
    """How many more Jobs each policy lets us pause today, and each Job once."""

    def __init__(self, assembly: Assembly, workloads: Sequence[WorkloadRecord], now: datetime) -> None:
        self._policy_of: dict[str, str] = {}
        self._left: dict[str, int] = {}
        spent: Counter[str] = Counter()
        for record in workloads:
            policy = _enforcing(record, assembly)
            if policy is None:
                continue
            name = policy.metadata.name
            # A pause that may last for no time would cost a checkpoint and help nobody.
            self._left[name] = policy.spec.max_pauses_per_day if assembly.snapshot.max_limit_hold_s > 0.0 else 0
            paused_at = parse_time(record.annotations.get(names.PAUSED_AT))
            recently = paused_at is not None and now - paused_at < DAY
            if recently or names.PAUSE_BY in record.annotations:
                spent[name] += 1
            if not recently:
                self._policy_of[record.key.uid] = name
        for name, count in spent.items():
            self._left[name] -= count

    def allows(self, uid: str) -> bool:
        """Tell whether a Job may be paused today."""
        return self._left.get(self._policy_of.get(uid, ""), 0) > 0

    def take(self, uid: str) -> None:
        """Use one of the policy's pauses."""
        self._left[self._policy_of[uid]] -= 1


def _suspension(
    record: WorkloadRecord,
    pods: Sequence[PodRecord],
    know: Collection[PodRecord],
    announced: str,
    cell: str,
    now: datetime,
) -> Suspension | None:
    """Suspend a Job that has saved its work, or whose announced instant has come; None while there is time left."""
    acknowledged, by = _is_acknowledged(record, pods, know, announced), parse_time(announced)
    if not acknowledged and by is not None and now < by:
        return None
    cell = record.annotations.get(names.CELL) or cell
    return Suspension(key=record.key, announced=announced, acknowledged=acknowledged, cell=cell)


def _is_acknowledged(
    record: WorkloadRecord, pods: Sequence[PodRecord], know: Collection[PodRecord], announced: str
) -> bool:
    """Tell whether the Job or each of its pods has saved its work; what pods that `know` were told counts for them."""
    if record.annotations.get(names.CHECKPOINTED) == announced:
        return True
    return bool(pods) and all(
        pod.checkpointed == announced or (pod in know and pod.checkpointed == pod.told) for pod in pods
    )


def pause_bound(record: WorkloadRecord, assembly: Assembly) -> datetime | None:
    """Return when a paused Job goes on at the latest; None where its pause has no time that can be believed."""
    paused_at = parse_time(record.annotations.get(names.PAUSED_AT))
    # Its user may have written any year there.
    if paused_at is None or paused_at - assembly.snapshot.now > _CLOCKS_DIFFER:
        return None
    return paused_at + timedelta(seconds=assembly.snapshot.max_limit_hold_s)


def pauses_end(assembly: Assembly, workloads: Iterable[WorkloadRecord]) -> dict[str, datetime]:
    """Return when what is paused goes on at the latest, by uid."""
    ends = ((record.key.uid, pause_bound(record, assembly)) for record in workloads if record.paused)
    return {uid: end for uid, end in ends if end is not None}


def _resumption(
    record: WorkloadRecord, assembly: Assembly, rises: Rises, wanted: bool, now: datetime
) -> Resumption | None:
    """Let a paused Job go on where anything allows it now; None where it stays."""
    why = _why_it_goes_on(record, assembly, rises, wanted, now)
    if not why:
        return None
    bound, bordered = pause_bound(record, assembly), bool(record.annotations.get(names.RESIDENCY))
    cell = record.annotations.get(names.CELL, "")
    # Its residency may have been edited since, or somebody may have written the note.
    inside = not bordered or cell in assembly.places.allowed(record)
    may_roam = (bound is None or now >= bound) and not bordered
    return Resumption(record=record, cell=cell if inside else "", why=why, may_roam=may_roam)


def _why_it_goes_on(record: WorkloadRecord, assembly: Assembly, rises: Rises, wanted: bool, now: datetime) -> str:
    """Return why a paused Job goes on now; empty where it stays."""
    bound = pause_bound(record, assembly)
    if bound is None or now >= bound:
        return "its pause has lasted as long as a pause may"
    if _enforcing(record, assembly) is None:
        return "no enforcing policy covers it any more"
    cell = next((c for c in assembly.snapshot.cells if c.name == record.annotations.get(names.CELL, "")), None)
    zone = (
        None
        if cell is None
        else next((z for z in assembly.snapshot.thermal_zones if z.name == cell.thermal_zone), None)
    )
    if cell is None or zone is None:
        return "its thermal zone is gone"
    if wanted or not zone.admission_open:
        return ""
    spec = next(z.spec for z in assembly.grid_zones if z.metadata.name == cell.grid_zone)
    known = assembly.learnt.class_power(record.key.namespace, record.key.name)
    added_kw = worst_kw(record.pods_left * record.gpus_per_pod, spec, None if known is None else known.worst_w())
    refused = rises.refusal(cell.name, added_kw, BACK_S)
    return "" if refused else f"{zone.name} has room for it again"


def because(cell: str, why: str) -> str:
    """Say why a Job is paused: heat, or a permit or contracted power that leaves its zone less heat."""
    return f"{cell or 'its zone'} has to make less heat" + (f" ({why})" if why else "")


def said(record: WorkloadRecord, assembly: Assembly, why: str = "") -> str:
    """Say in one sentence why a Job is paused and until when at most."""
    bound = pause_bound(record, assembly)
    cell = record.annotations.get(names.CELL, "")
    until = f", at the latest {format_time(bound)[:16].replace('T', ' ')} UTC" if bound is not None else ""
    return (
        f"Paused since {record.annotations[names.PAUSED_AT][:16].replace('T', ' ')} UTC because {because(cell, why)}; "
        f"goes on when there is room again{until}."
    )
