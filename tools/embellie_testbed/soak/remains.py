# SPDX-License-Identifier: Apache-2.0
"""What is left after an uninstall, in the cluster and in the programs' logs, and what of it should not be."""

import json
from collections.abc import Iterable
from pathlib import Path

from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.soak.audit import Object
from embellie_testbed.soak.rules import Violation
from embellie_testbed.soak.rules_writes import PAUSE_BY
from embellie_testbed.soak.trail import GATE, HELD, OPERATOR, Trail, gates, labels, notes

OVERHEATED = "embellie.io/overheated"
_KINDS = (
    "nodes,jobs,pods,deployments,configmaps,services,serviceaccounts,roles,rolebindings,poddisruptionbudgets,"
    "clusterroles,clusterrolebindings,mutatingadmissionpolicies,mutatingadmissionpolicybindings,"
    "validatingadmissionpolicies,validatingadmissionpolicybindings,powercaps"
)
_CAUGHT = ('"turn failed"', '"loop-failed"')
_STAYS = frozenset({"embellie-anchor"})
"""Documented on the page on installation: without it the API server stops reading ConfigMaps for admission."""


def gather(plane: ControlPlane) -> list[Object]:
    """Return every object of a kind that we write to or bring."""
    found: list[Object] = json.loads(plane.kubectl("get", _KINDS, "--all-namespaces", "-o", "json"))["items"]
    return found


def judge_logs(folder: Path) -> list[Violation]:
    """Return a violation for each kind of defect that a program of the product caught in itself and went on."""
    found: dict[str, str] = {}
    for path in sorted([*folder.glob("operator-*.log"), *folder.glob("watchdog-*.log")]):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if any(words in line for words in _CAUGHT):
                found.setdefault(line[-120:], f"{path.name}: {line[:3000]}")
    return [Violation(promise="no turn ends in a defect of its own", says=line) for line in found.values()]


def judge_remains(objects: Iterable[Object], trail: Trail) -> list[Violation]:
    """Return a violation for each trace of ours that an uninstall should have taken away."""
    promise = "uninstalling leaves nothing of ours"
    return [Violation(promise=promise, says=said) for obj in objects for said in _traces(obj, trail)]


def _traces(obj: Object, trail: Trail) -> list[str]:
    meta, kind = obj["metadata"], obj["kind"]
    name = f"{kind} {meta.get('namespace', '')}/{meta['name']}"
    found = []
    if HELD in labels(obj) or GATE in gates(obj):
        found.append(f"{name} is held still")
    if kind in ("Job", "Pod") and _was_told(obj, trail):
        found.append(f"{name} is told to pause still")
    taints = (obj.get("spec") or {}).get("taints") or () if kind == "Node" else ()
    if any(taint["key"] == OVERHEATED for taint in taints):
        found.append(f"{name} is tainted still")
    if kind == "PowerCap" and labels(obj).get("app.kubernetes.io/managed-by") == "embellie":
        found.append(f"{name} stands still")
    ours = labels(obj).get("app.kubernetes.io/instance") == "embellie" or meta["name"].startswith("embellie")
    if ours and meta["name"] not in _STAYS and kind not in ("Namespace", "PowerCap"):
        found.append(f"{name} is left")
    return found


def _was_told(obj: Object, trail: Trail) -> bool:
    """Tell whether work that goes on carries an announcement of ours; users may have written one themselves."""
    life, by, status = (
        trail.lives.get(obj["metadata"].get("uid", "")),
        notes(obj).get(PAUSE_BY),
        obj.get("status") or {},
    )
    if life is None or by is None or status.get("phase") in ("Succeeded", "Failed"):
        return False
    if any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in status.get("conditions") or ()):
        return False
    writers = [change.write.user for change in life.changes if notes(change.after).get(PAUSE_BY) == by]
    return writers[:1] == [OPERATOR]
