# SPDX-License-Identifier: Apache-2.0
"""The lives of workloads as the audit log tells them: each change, each wait, and what was true around them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from embellie_testbed.soak.audit import Object, Write, parse

OPERATOR = "system:serviceaccount:embellie-system:embellie-operator"
WATCHDOG = "system:serviceaccount:embellie-system:embellie-watchdog"
OURS = frozenset({OPERATOR, WATCHDOG})

HELD = "embellie.io/held"
FLEX = "embellie.io/flex"
GATE = "embellie.io/hold"
WILLING = frozenset({"patient", "bonus"})

WAITS_AT_MOST = "soak.example.com/waits-at-most"
"""Seconds after its creation that a user's own words let it wait at most; written by the soak's users beside them."""
NEVER = "soak.example.com/never"
"""On work that nobody may ever hold."""
TAKES = "soak.example.com/takes"
"""Seconds that a checkpoint takes, on work whose words about checkpoints can be read."""


def labels(obj: Object) -> dict[str, str]:
    """Return an object's labels."""
    return (obj.get("metadata") or {}).get("labels") or {}


def notes(obj: Object) -> dict[str, str]:
    """Return an object's annotations."""
    return (obj.get("metadata") or {}).get("annotations") or {}


def gates(obj: Object) -> list[str]:
    """Return the names of a pod's scheduling gates."""
    return [gate["name"] for gate in (obj.get("spec") or {}).get("schedulingGates") or ()]


def suspended(obj: Object) -> bool:
    """Tell whether a Job is suspended."""
    return bool((obj.get("spec") or {}).get("suspend"))


def waits(obj: Object) -> bool:
    """Tell whether work stands still with our marker on it."""
    return labels(obj).get(HELD) == "true" and (suspended(obj) or GATE in gates(obj))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One write that was carried out."""

    write: Write
    before: Object
    """Empty where it was created."""
    after: Object


@dataclass(slots=True, kw_only=True)
class Life:
    """A Job or pod from its creation on."""

    uid: str
    kind: str
    namespace: str
    name: str
    born: datetime
    owner: str
    """uid of its owner; empty without one."""
    changes: list[Change] = field(default_factory=list)
    ended: datetime | None = None
    """When it was deleted."""

    def __str__(self) -> str:
        return f"{self.kind.lower()}/{self.name} in {self.namespace}"

    def at(self, moment: datetime) -> Object:
        """Return it as it was at an instant; empty before it was created."""
        known: Object = {}
        for change in self.changes:
            if change.write.at > moment:
                break
            known = change.after
        return known

    @property
    def last(self) -> Object:
        """As it was last seen."""
        return self.changes[-1].after

    def waits(self) -> Iterator["Wait"]:
        """Yield its waits."""
        began: Change | None = None
        for change in self.changes:
            if began is None and waits(change.after):
                began = change
            elif began is not None and not waits(change.after):
                yield Wait(life=self, began=began, ended=change, end=change.write.at, pause=bool(began.before))
                began = None
        if began is not None:
            yield Wait(life=self, began=began, ended=None, end=self.ended, pause=bool(began.before))

    def lines(self) -> tuple[str, ...]:
        """Tell its changes, for people."""
        return tuple(f"{change.write.line()}{_became(change)}" for change in self.changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A time in which work stood still with our marker."""

    life: Life
    began: Change
    ended: Change | None
    """None where it was deleted, or waits still."""
    end: datetime | None
    """None where it waits still."""
    pause: bool
    """Whether it ran before."""

    @property
    def begin(self) -> datetime:
        """When it began."""
        return self.began.write.at


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """All that the audit log tells."""

    lives: dict[str, Life]
    refused: tuple[Write, ...]
    """Writes on Jobs and pods that were not carried out."""
    plans: dict[str, tuple[Write, ...]]
    """Writes of WorkloadPlans by the uid of what they are about."""
    bindings: tuple[Write, ...]
    zones: dict[str, tuple[Write, ...]]
    nodes: dict[str, tuple[Write, ...]]
    policies: dict[str, tuple[Write, ...]]
    until: datetime
    """When the log ends."""

    def work(self) -> Iterator[Life]:
        """Yield Jobs and bare pods."""
        return (life for life in self.lives.values() if not life.owner)

    def waits(self) -> Iterator[Wait]:
        """Yield every wait of every workload."""
        for life in self.lives.values():
            yield from life.waits()

    def named(self, write: Write) -> Life | None:
        """Return the life that a write without an answer was about."""
        kind = "Job" if write.resource == "jobs" else "Pod"
        found = (
            life
            for life in self.lives.values()
            if (life.kind, life.namespace, life.name) == (kind, write.namespace, write.name)
            and life.changes[0].write.at <= write.at
        )
        return max(found, key=lambda life: life.changes[0].write.at, default=None)


def versions(writes: Iterable[Write], begin: datetime, end: datetime) -> list[Object]:
    """Return what an object was between two instants, the state that it had at the beginning included."""
    known: list[Object] = []
    for write in writes:
        if write.at > end:
            break
        if write.at <= begin:
            known.clear()
        if write.verb != "delete":
            known.append(write.came)
    return known


def read_trail(writes: Iterable[Write]) -> Trail:
    """Put the writes of an audit log together; they come in the order of their answers."""
    by_resource: defaultdict[str, list[Write]] = defaultdict(list)
    until = datetime.fromtimestamp(0, UTC)
    for write in writes:
        by_resource[write.resource].append(write)
        until = max(until, write.at)
    work = sorted([*by_resource["jobs"], *by_resource["pods"]], key=lambda write: write.at)
    plans: defaultdict[str, list[Write]] = defaultdict(list)
    for write in sorted([*by_resource["workloadplans"], *by_resource["workloadplans/status"]], key=lambda w: w.at):
        about = ((write.came.get("spec") or {}).get("workloadRef") or {}).get("uid")
        if write.done and about and write.verb != "delete":
            plans[about].append(write)
    return Trail(
        lives=_lives([write for write in work if write.done]),
        refused=tuple(write for write in work if not write.done),
        plans={uid: tuple(found) for uid, found in plans.items()},
        bindings=tuple(write for write in by_resource["pods/binding"] if write.done),
        zones=_by_name(by_resource["gridzones"]),
        nodes=_by_name(by_resource["nodes"]),
        policies=_by_name(by_resource["energypolicies"]),
        until=until,
    )


def _by_name(writes: Iterable[Write]) -> dict[str, tuple[Write, ...]]:
    found: defaultdict[str, list[Write]] = defaultdict(list)
    for write in writes:
        if write.done:
            found[write.name].append(write)
    return {name: tuple(each) for name, each in found.items()}


def _lives(writes: Iterable[Write]) -> dict[str, Life]:
    seen: defaultdict[str, list[tuple[int, Write]]] = defaultdict(list)
    ended: dict[str, datetime] = {}
    for write in writes:
        for obj in write.came.get("items") or [write.came] if write.verb == "deletecollection" else [write.came]:
            meta: dict[str, Any] = obj.get("metadata") or {}
            uid = meta.get("uid") or (obj.get("details") or {}).get("uid", "")
            if write.verb.startswith("delete") or meta.get("deletionTimestamp"):
                ended.setdefault(uid, write.at)
            elif uid:
                seen[uid].append((int(meta.get("resourceVersion", 0)), write))
    lives = {}
    for uid, versioned in seen.items():
        # Two writes side by side may be answered in another order than they were carried out in.
        ordered = [write for _, write in sorted(versioned, key=lambda each: each[0])]
        life = lives[uid] = _born(uid, ordered[0].came)
        life.ended = ended.get(uid)
        before: Object = {}
        for write in ordered:
            life.changes.append(Change(write=write, before=before, after=write.came))
            before = write.came
    return lives


def _born(uid: str, obj: Object) -> Life:
    meta = obj["metadata"]
    owners = meta.get("ownerReferences") or [{}]
    return Life(
        uid=uid,
        kind=obj.get("kind", ""),
        namespace=meta["namespace"],
        name=meta["name"],
        born=parse(meta["creationTimestamp"]),
        owner=owners[0].get("uid", ""),
    )


def _became(change: Change) -> str:
    told = []
    for word, how in (("waits", waits), ("suspended", suspended)):
        if how(change.before) != how(change.after) or not change.before:
            told.append(f"{word}={how(change.after)}")
    ours = {key: text for key, text in notes(change.after).items() if key.startswith(("embellie.io/", "soak."))}
    told += [f"{key}={text}" for key, text in ours.items() if notes(change.before).get(key) != text]
    told += [f"-{key}" for key in notes(change.before) if key.startswith("embellie.io/") and key not in ours]
    return f" [{', '.join(told)}]" if told else ""
