# SPDX-License-Identifier: Apache-2.0
"""Audit logs written by hand: what users, controllers and our own accounts might have done, well and badly."""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from embellie_testbed.soak.audit import Object, write_of
from embellie_testbed.soak.rules import Case, Terms
from embellie_testbed.soak.spells import Part, Spell
from embellie_testbed.soak.trail import FLEX, HELD, OPERATOR, read_trail

BEGIN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
USER = "admin"
SCHEDULER = "system:kube-scheduler"
TERMS = Terms(max_limit_hold_s=20.0, dead_man_s=10.0, release_s=10.0, longest_delay_s=60.0, tolerance_s=5.0)


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def clock(seconds: float) -> str:
    return at(seconds).isoformat(timespec="microseconds").replace("+00:00", "Z")


def whole(seconds: float) -> str:
    return f"{at(seconds):%Y-%m-%dT%H:%M:%SZ}"


class AuditLog:
    """Events in the order in which they were written, and the objects as they are now."""

    def __init__(self) -> None:
        self.events: list[Object] = []
        self._versions = count(1)

    def case(self, *spells: Spell, until: float = 300.0, uninstalled: float | None = None) -> Case:
        """Return the case that this log makes; it ends at `until`."""
        self.event(until, USER, "update", "nodes", {"kind": "Node", "metadata": {"name": "last"}})
        trail = read_trail(write_of(event) for event in sorted(self.events, key=lambda e: e["stageTimestamp"]))
        terms = TERMS if uninstalled is None else replace(TERMS, uninstalled_at=at(uninstalled))
        return Case(trail=trail, spells=spells, terms=terms)

    def event(
        self, seconds: float, user: str, verb: str, resource: str, obj: Object, *, asked: Object | None = None,
        code: int = 200, answer: Object | None = None,
    ) -> None:  # fmt: skip
        """Write one request down, with the object that came of it."""
        meta = obj["metadata"]
        meta["resourceVersion"] = str(next(self._versions))
        plural, _, sub = resource.partition("/")
        about = {"resource": plural, "name": meta["name"], "namespace": meta.get("namespace", "")}
        self.events.append(
            {
                "stage": "ResponseComplete",
                "verb": verb,
                "user": {"username": user},
                "stageTimestamp": clock(seconds),
                "objectRef": about | ({"subresource": sub} if sub else {}),
                "responseStatus": {"code": code},
                "requestObject": deepcopy(asked if asked is not None else obj),
                "responseObject": deepcopy(answer if answer is not None else obj),
            }
        )

    def job(
        self, name: str = "train", *, flex: str | None = "patient", held: bool = True, born: float = 0.0, **notes: str
    ) -> Object:
        """Create a Job as a user; `notes` are annotations, of ours where they name no domain."""
        keys = {key.replace("_", "-"): text for key, text in notes.items()}
        asked: Object = {
            "kind": "Job",
            "metadata": {
                "name": name,
                "namespace": "team",
                "uid": f"uid-{name}",
                "creationTimestamp": whole(born),
                "labels": {FLEX: flex} if flex else {},
                "annotations": {key if "/" in key else f"embellie.io/{key}": text for key, text in keys.items()},
            },
            "spec": {"suspend": False, "template": {"spec": {}}},
        }
        obj = deepcopy(asked)
        if held:
            obj["spec"]["suspend"] = True
            obj["metadata"]["labels"][HELD] = "true"
        self.event(born, USER, "create", "jobs", obj, asked=asked, code=201)
        return obj

    def note(self, obj: Object, seconds: float, user: str, **notes: str | None) -> None:
        """Change annotations of ours; None takes one off."""
        self.change(obj, seconds, user, annotations={f"embellie.io/{k.replace('_', '-')}": v for k, v in notes.items()})

    def change(
        self, obj: Object, seconds: float, user: str, *, suspend: bool | None = None,
        labels: dict[str, str | None] | None = None, annotations: dict[str, str | None] | None = None,
    ) -> None:  # fmt: skip
        """Change an object in one write."""
        for key, values in (("labels", labels), ("annotations", annotations)):
            for name, text in (values or {}).items():
                if text is None:
                    obj["metadata"][key].pop(name, None)
                else:
                    obj["metadata"][key][name] = text
        if suspend is not None:
            obj["spec"]["suspend"] = suspend
        self.event(seconds, user, "patch", "jobs" if obj["kind"] == "Job" else "pods", obj)

    def release(self, obj: Object, seconds: float, user: str = OPERATOR, reason: str = "BestNow") -> None:
        """Start a held Job."""
        notes = {"embellie.io/released-at": whole(seconds), "embellie.io/release-reason": reason}
        self.change(obj, seconds, user, suspend=False, labels={HELD: None}, annotations=dict(notes))

    def plan(
        self, obj: Object, seconds: float, state: str, reason: str, *, latest: float = 60.0, policy: str = "p"
    ) -> None:
        """Write a workload's plan."""
        plan = {
            "kind": "WorkloadPlan",
            "metadata": {"name": f"job-{obj['metadata']['name']}", "namespace": "team"},
            "spec": {
                "workloadRef": {"uid": obj["metadata"]["uid"]},
                "latestStartTime": whole(latest),
                "policyName": policy,
            },
            "status": {"state": state, "reason": reason, "message": "Because."},
        }
        self.event(seconds, OPERATOR, "patch", "workloadplans/status", plan)

    def pod(self, job: Object, name: str, seconds: float, **notes: str) -> Object:
        """Create a pod of a Job, as its controller."""
        meta = {
            "name": name,
            "namespace": "team",
            "uid": f"uid-{name}",
            "creationTimestamp": whole(seconds),
            "ownerReferences": [{"uid": job["metadata"]["uid"]}],
            "labels": {},
            "annotations": {f"embellie.io/{key.replace('_', '-')}": text for key, text in notes.items()},
        }
        obj = {"kind": "Pod", "metadata": meta, "spec": {}}
        self.event(seconds, "system:serviceaccount:kube-system:job-controller", "create", "pods", obj, code=201)
        return obj

    def bind(self, pod: Object, node: str, seconds: float) -> None:
        """Bind a pod to a node, as the scheduler."""
        meta = {"name": pod["metadata"]["name"], "namespace": "team", "uid": pod["metadata"]["uid"]}
        asked = {"metadata": dict(meta), "target": {"name": node}}
        self.event(seconds, SCHEDULER, "create", "pods/binding", {"metadata": meta}, asked=asked, code=201)

    def zone(self, name: str, jurisdiction: str, seconds: float = -100.0) -> None:
        """Make a GridZone over the nodes that carry its name, and one such node."""
        spec = {"nodeSelector": {"zone": name}, "jurisdiction": jurisdiction}
        self.event(seconds, USER, "create", "gridzones", {"metadata": {"name": name}, "spec": spec})
        node = {"kind": "Node", "metadata": {"name": f"{name}-1", "labels": {"zone": name}}}
        self.event(seconds, USER, "create", "nodes", node)

    def policy(self, seconds: float = -100.0, **spec: Any) -> None:
        """Make an EnergyPolicy."""
        usual = {"mode": "enforce", "maxPausesPerDay": 1}
        self.event(seconds, USER, "create", "energypolicies", {"metadata": {"name": "p"}, "spec": usual | spec})


def spell(part: Part, begin: float, end: float) -> Spell:
    return Spell(part=part, begin=at(begin), end=at(end), why="a test")


def promises(violations: Iterable[Any]) -> list[str]:
    return [violation.promise for violation in violations]


def good_hold(log: AuditLog, *, released: float = 30.0, latest: float = 60.0, **notes: str) -> Object:
    """A Job that is held, says why, and starts."""
    job = log.job(**notes)
    log.plan(job, 1.0, "Held", "CleanerWindow", latest=latest)
    log.release(job, released)
    log.plan(job, released + 1.0, "Released", "BestNow", latest=latest)
    return job
