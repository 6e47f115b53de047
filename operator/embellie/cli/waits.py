# SPDX-License-Identifier: Apache-2.0
"""What a workload waits for that is not our doing: queue, gates, its user, quota, the scheduler. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from embellie.cli.words import one_line
from embellie.domain import names

Raw = Mapping[str, Any]
LONGEST_MESSAGE = 220


def other_waits(
    workload: Raw, pods: Iterable[Raw], events: Iterable[Raw], planned: Iterable[Raw], *, held: bool
) -> list[str]:
    """Return what stands between the workload and its start besides us, one phrase each."""
    is_pod = workload.get("kind") == "Pod"
    spec = workload.get("spec") or {}
    pods = list(pods) or ([workload] if is_pod else [])
    waits = _queue(workload) if spec.get("schedulingGates" if is_pod else "suspend") else []
    waits += _gates([*pods, workload if is_pod else (spec.get("template") or {})])
    if not is_pod and spec.get("suspend") and not held and names.KUEUE_QUEUE_LABEL not in _labels(workload):
        waits.append("its own suspension (spec.suspend is true, set by its user or another controller)")
    waits += _refused(events, wanted=not (pods or held or spec.get("suspend")))
    if not held:
        waits += _unschedulable(pods)
    known = " ".join(waits)
    waits += [one_line(str(w.get("message")), LONGEST_MESSAGE) for w in planned if str(w.get("message")) not in known]
    return [w for i, w in enumerate(waits) if w not in waits[:i] and not _said(w, waits[:i])]


def newest_text(events: Iterable[Raw]) -> str:
    """Return what the newest of some events says, of either kind of events; empty without one."""
    return max(((_time(event), _text(event)) for event in events), default=("", ""))[1]


def _time(event: Raw) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event.get("deprecatedLastTimestamp") or "")


def _text(event: Raw) -> str:
    return str(event.get("message") or event.get("note") or "")


def _said(wait: str, before: list[str]) -> bool:
    """Whether a gate was already named in other words."""
    return any("scheduling gate" in b and "scheduling gate" in wait and b.rsplit(" ", 1)[-1] in wait for b in before)


def _labels(workload: Raw) -> Raw:
    return (workload.get("metadata") or {}).get("labels") or {}


def _queue(workload: Raw) -> list[str]:
    queue = _labels(workload).get(names.KUEUE_QUEUE_LABEL)
    return [f"Kueue queue {one_line(str(queue), 70)} (kubectl get workloads.kueue.x-k8s.io)"] if queue else []


def _gates(pods: Iterable[Raw]) -> list[str]:
    found: dict[str, None] = {}
    for pod in pods:
        for gate in (pod.get("spec") or {}).get("schedulingGates") or ():
            if gate.get("name") != names.GATE:
                found[one_line(str(gate.get("name")), 130)] = None
    return [f"scheduling gate {gate}" for gate in found]


def _refused(events: Iterable[Raw], *, wanted: bool) -> list[str]:
    """Return the newest word about pods that could not be created: quota, and whatever else while one is `wanted`."""
    text = newest_text(
        e
        for e in events
        if e.get("reason") != names.PLAN_REFUSED
        and ("exceeded quota" in _text(e) or (wanted and e.get("reason") == "FailedCreate"))
    )
    if not text:
        return []
    what = "quota" if "exceeded quota" in text else "its pods, which are refused"
    return [f"{what}: {one_line(text, LONGEST_MESSAGE)}"]


def _unschedulable(pods: Iterable[Raw]) -> list[str]:
    """Return the scheduler's own words, and about how many pods."""
    said: Counter[str] = Counter()
    for pod in pods:
        for condition in (pod.get("status") or {}).get("conditions") or ():
            if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
                said[one_line(str(condition.get("message") or "no message"), LONGEST_MESSAGE)] += 1
    return [f"the scheduler, for {count} pod{'s' if count > 1 else ''}: {text}" for text, count in said.most_common(2)]
