# SPDX-License-Identifier: Apache-2.0
"""The promise about borders: what we started, or let others start for us, runs where its residency says."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from embellie_testbed.soak.audit import Object, Write
from embellie_testbed.soak.rules import Case, Violation
from embellie_testbed.soak.trail import OURS, Life, Wait, labels, notes, versions

RESIDENCY = "embellie.io/residency"
BY_COMMAND = ("embellie.io/go", "embellie.io/release-reason")
"""Notes of those who start held work with a command of ours and rights of their own."""
_SEEN_WITHIN = timedelta(seconds=10)
"""A zone or a label that was changed less long before a start may not have been seen yet."""


def residency_is_never_crossed(case: Case) -> Iterator[Violation]:
    """No pod of work that we held is bound to a node outside of what its residency allowed when it was started."""
    started: dict[str, list[Wait]] = {}
    for wait in case.trail.waits():
        started.setdefault(wait.life.uid, []).append(wait)
    for write in case.trail.bindings:
        pod = case.trail.lives.get(((write.asked.get("metadata") or {}).get("uid")) or "") or _pod(case, write)
        if pod is None:
            continue
        life = case.trail.lives.get(pod.owner, pod)
        before = [w for w in started.get(life.uid, ()) if w.end is not None and w.end <= write.at]
        if not before or not _by_us(before[-1]):
            continue
        start = before[-1]
        assert start.ended is not None  # noqa: S101 - `_by_us`
        residency = notes(start.ended.before).get(RESIDENCY, "")
        node = (write.asked.get("target") or {}).get("name", "")
        if residency and not _allowed(case, residency, node, start.ended.write.at, write.at):
            says = f"{pod}, started by {start.ended.write.user}, was bound to {node}, not in {residency}"
            lines = (*life.lines(), write.line(), *_known_zones(case, node, start.ended.write.at, write.at))
            yield Violation(promise="residency is never crossed", says=says, shown_by=lines)


def _pod(case: Case, write: Write) -> Life | None:
    found = (
        p for p in case.trail.lives.values() if (p.kind, p.namespace, p.name) == ("Pod", write.namespace, write.name)
    )
    return max((p for p in found if p.changes[0].write.at <= write.at), key=lambda p: p.born, default=None)


def _by_us(wait: Wait) -> bool:
    if wait.ended is None:
        return False
    before, after = notes(wait.ended.before), notes(wait.ended.after)
    return wait.ended.write.user in OURS or any(after.get(key) != before.get(key) for key in BY_COMMAND)


def _allowed(case: Case, residency: str, node: str, begin: datetime, end: datetime) -> bool:
    wanted = [code.strip().upper() for code in residency.split(",") if code.strip()]
    seen = versions(case.trail.nodes.get(node, ()), begin - _SEEN_WITHIN, end)
    return any(
        _holds(zone, known) and _inside(zone, wanted)
        for writes in case.trail.zones.values()
        for zone in versions(writes, begin - _SEEN_WITHIN, end)
        for known in seen
    )


def _holds(zone: Object, node: Object) -> bool:
    selector = (zone.get("spec") or {}).get("nodeSelector") or {}
    return bool(selector) and all(labels(node).get(key) == value for key, value in selector.items())


def _inside(zone: Object, wanted: list[str]) -> bool:
    here = str((zone.get("spec") or {}).get("jurisdiction", "")).upper()
    return any(here == code or here.startswith(f"{code}-") for code in wanted)


def _known_zones(case: Case, node: str, begin: datetime, end: datetime) -> Iterator[str]:
    for name, writes in case.trail.zones.items():
        for zone in versions(writes, begin - _SEEN_WITHIN, end):
            spec = zone.get("spec") or {}
            yield f"zone {name}: {spec.get('nodeSelector')} in {spec.get('jurisdiction')}"
    for known in versions(case.trail.nodes.get(node, ()), begin - _SEEN_WITHIN, end):
        yield f"node {node}: {labels(known)}"
