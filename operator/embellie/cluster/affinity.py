# SPDX-License-Identifier: Apache-2.0
"""Node affinity: confine a pod to a cell, and tell which nodes a user's own constraints allow.

Both are pure and follow the scheduler's own rules (k8s.io/component-helpers/scheduling/corev1/nodeaffinity).
"""

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")


def confine(pod_spec: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the parts of a pod spec that change so that its pod runs on nodes with these labels only.

    That is its node selector where its user wrote a required affinity: a list that we changed could not be applied
    again, for it conflicts, and in a running Job it is immutable. The keys of a selector are each their writer's own.
    """
    affinity, selector = narrow(pod_spec, labels), pod_spec.get("nodeSelector") or {}
    if affinity == (pod_spec.get("affinity") or {}):
        return {}
    required = ((pod_spec.get("affinity") or {}).get("nodeAffinity") or {}).get(_REQUIRED) or {}
    both = {**selector, **labels}
    if required.get("nodeSelectorTerms") and selector.items() <= both.items():
        return {} if both == selector else {"nodeSelector": both}
    return {"affinity": affinity}


def narrow(pod_spec: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the pod's affinity with every label required on the node, and all of the user's own constraints.

    The terms of a required node affinity are alternatives, so each of them gets our requirements: adding them to one
    would leave the others as a way out. They are appended, which is the only change that a gated pod allows. A term
    without requirements matches no node and stays so: with ours in it, it would begin to match.
    """
    affinity: dict[str, Any] = copy.deepcopy(dict(pod_spec.get("affinity") or {}))
    if not labels:
        return affinity
    ours = [{"key": key, "operator": "In", "values": [value]} for key, value in sorted(labels.items())]
    node_affinity = dict(affinity.get("nodeAffinity") or {})
    required = dict(node_affinity.get(_REQUIRED) or {})
    terms = [_with(term, ours) for term in required.get("nodeSelectorTerms") or ()]
    required["nodeSelectorTerms"] = terms or [{"matchExpressions": ours}]
    node_affinity[_REQUIRED] = required
    affinity["nodeAffinity"] = node_affinity
    return affinity


def matches_node(pod_spec: Mapping[str, Any], node_labels: Mapping[str, str], node_name: str) -> bool:
    """Tell whether the pod's nodeSelector and required node affinity allow the node."""
    selector = pod_spec.get("nodeSelector") or {}
    if any(node_labels.get(key) != value for key, value in selector.items()):
        return False
    required = ((pod_spec.get("affinity") or {}).get("nodeAffinity") or {}).get(_REQUIRED)
    if not required:
        return True
    return any(_term_matches(term, node_labels, node_name) for term in required.get("nodeSelectorTerms") or ())


def _with(term: Mapping[str, Any], ours: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    expressions = list(term.get("matchExpressions") or ())
    if not expressions and not term.get("matchFields"):
        return dict(term)
    missing = [dict(expression) for expression in ours if expression not in expressions]
    return {**term, "matchExpressions": expressions + missing}


def _term_matches(term: Mapping[str, Any], node_labels: Mapping[str, str], node_name: str) -> bool:
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return all(_matches(expression, node_labels) for expression in expressions) and all(
        field.get("key") == "metadata.name" and _matches(field, {"metadata.name": node_name}) for field in fields
    )


def _matches(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(expression.get("key", ""))
    values = list(expression.get("values") or ())
    match expression.get("operator"):
        case "In":
            return value is not None and value in values
        case "NotIn":
            return value is None or value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            return len(values) == 1 and value is not None and _compare(operator, value, values[0])
        case _:
            return False


def _compare(operator: str, value: str, bound: str) -> bool:
    if not (_INTEGER.fullmatch(value) and _INTEGER.fullmatch(bound)):
        return False
    return int(value) > int(bound) if operator == "Gt" else int(value) < int(bound)
