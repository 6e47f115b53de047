# SPDX-License-Identifier: Apache-2.0
"""Keep a workload inside its residency when it is released without the planner. Pure.

The answer is always a narrowing: of the required node affinity, or by the node selector where its user wrote such an
affinity and one zone lies inside, for a list of theirs that is changed cannot be applied again. Where no zone is known
to lie inside the residency, a node label is asked for that no node has by itself: the workload stays Pending, in sight,
and does not cross a border.
"""

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from embellie.watchdog import names

Term = dict[str, Any]


def parse_residency(text: str) -> tuple[str, ...]:
    """Return the jurisdictions of the annotation, e.g. `FR, DE`."""
    return tuple(part.strip().upper() for part in text.split(",") if part.strip())


def satisfies(jurisdiction: str, residency: Iterable[str]) -> bool:
    """Whether a zone's jurisdiction lies inside: `US-CA` lies in `US`, not the other way round."""
    where = jurisdiction.strip().upper()
    return bool(where) and any(where == allowed or where.startswith(f"{allowed}-") for allowed in residency)


def zones_inside(zones: Iterable[Mapping[str, Any]], residency: Iterable[str]) -> list[dict[str, str]]:
    """Return the node selectors of the GridZones that lie inside the residency."""
    allowed = tuple(residency)
    found = []
    for zone in sorted(zones, key=lambda z: str(z.get("metadata", {}).get("name", ""))):
        spec = zone.get("spec") or {}
        labels = spec.get("nodeSelector") or {}
        if labels and _exclusive(zone) and satisfies(str(spec.get("jurisdiction") or ""), allowed):
            found.append({str(k): str(v) for k, v in labels.items()})
    return found


def _exclusive(zone: Mapping[str, Any]) -> bool:
    """Whether the zone shares no node with another: else its labels do not keep anything inside its jurisdiction."""
    conditions = (zone.get("status") or {}).get("conditions") or ()
    # A cell that leaks does so between rows of its own zone, which crosses no border.
    shared = (c for c in conditions if c.get("type") == "NodesExclusive" and c.get("reason") != "LeakingCell")
    return not any(c.get("status") == "False" for c in shared)


def confined(
    pod_spec: Mapping[str, Any], residency_text: str, zones: Iterable[Mapping[str, Any]] | None
) -> dict[str, Any]:
    """Return the parts of a pod spec that change so that its pod stays inside the residency.

    The operator's own starts follow the same rule (`cluster/affinity.py`; a test compares them). Several zones do not
    fit into a node selector, and without the operator nobody knows which of them has the nodes that it needs.
    """
    residency = parse_residency(residency_text)
    selectors = zones_inside(zones or (), residency)
    choices = _choices(selectors) or [[_in(names.RESIDENCY, [_label_value(r) for r in residency] or ["unreadable"])]]
    own, selector = required_terms(pod_spec), pod_spec.get("nodeSelector") or {}
    affinity = with_terms(pod_spec, _terms(own, choices))
    if affinity == pod_spec.get("affinity"):
        return {}
    if own and len(choices) == 1 and all(len(ours["values"]) == 1 for ours in choices[0]):
        both = {**selector, **{ours["key"]: ours["values"][0] for ours in choices[0]}}
        if selector.items() <= both.items():
            return {} if both == selector else {"nodeSelector": both}
    return {"affinity": affinity}


def _terms(own: list[Term], choices: list[list[Term]]) -> list[Term]:
    """Return the nodeSelectorTerms that keep the user's own and stay inside.

    Terms that exist may be narrowed but not multiplied: the API server refuses that on a gated pod, our fence on a Job.
    """
    if not own:
        return [{"matchExpressions": choice} for choice in choices]
    return [_narrow(term, _first_compatible(term, choices)) for term in own]


def required_terms(pod_spec: Mapping[str, Any]) -> list[Term]:
    """Return the required nodeSelectorTerms of a pod spec."""
    affinity = ((pod_spec.get("affinity") or {}).get("nodeAffinity")) or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    return list(required.get("nodeSelectorTerms") or [])


def with_terms(pod_spec: Mapping[str, Any], terms: list[Term]) -> dict[str, Any]:
    """Return the pod spec's affinity with these required terms, everything else of it kept."""
    affinity: dict[str, Any] = deepcopy(dict(pod_spec.get("affinity") or {}))
    node = affinity.setdefault("nodeAffinity", {}) or {}
    affinity["nodeAffinity"] = node
    node["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": terms}
    return affinity


def _choices(selectors: list[dict[str, str]]) -> list[list[Term]]:
    """Return OR-ed lists of AND-ed requirements; one list where the selectors differ in one label only."""
    if not selectors:
        return []
    keys = sorted(selectors[0])
    same_keys = all(sorted(s) == keys for s in selectors)
    differing = [k for k in keys if len({s.get(k) for s in selectors}) > 1] if same_keys else keys
    if same_keys and len(differing) <= 1:
        return [[_in(k, sorted({s[k] for s in selectors})) for k in keys]]
    return [[_in(k, [v]) for k, v in sorted(s.items())] for s in selectors]


def _in(key: str, values: list[str]) -> Term:
    return {"key": key, "operator": "In", "values": values}


def _narrow(term: Term, requirements: list[Term]) -> Term:
    narrowed = deepcopy(term)
    if not narrowed.get("matchExpressions") and not narrowed.get("matchFields"):
        return narrowed  # matches no node, and must not begin to
    own = narrowed.get("matchExpressions") or []
    narrowed["matchExpressions"] = [*own, *(ours for ours in requirements if ours not in own)]
    return narrowed


def _first_compatible(term: Term, choices: list[list[Term]]) -> list[Term]:
    """Return the first choice that the term does not plainly contradict, else the first."""
    for choice in choices:
        if all(_agree(own, ours) for own in term.get("matchExpressions") or [] for ours in choice):
            return choice
    return choices[0]


def _agree(own: Term, ours: Term) -> bool:
    if own.get("key") != ours["key"]:
        return True
    values, operator = set(own.get("values") or []), own.get("operator")
    if operator == "In":
        return bool(values & set(ours["values"]))
    if operator == "NotIn":
        return not set(ours["values"]) <= values
    return operator != "DoesNotExist"


def _label_value(text: str) -> str:
    """Return `text` as a valid label value, so that the API server takes the affinity whatever was written."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)[:63].strip("-._") or "unreadable"
