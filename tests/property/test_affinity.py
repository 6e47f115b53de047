# SPDX-License-Identifier: Apache-2.0
"""Narrowing an affinity: never a way out, never a constraint of the user lost."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embellie.cluster.affinity import confine, matches_node, narrow
from embellie.watchdog.residency import confined

KEYS = st.sampled_from(["zone", "hall", "gpu", "memory"])
VALUES = st.sampled_from(["a", "b", "1", "20"])
LABELS = st.dictionaries(KEYS, VALUES, max_size=4)
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


@st.composite
def expressions(draw: st.DrawFn) -> dict[str, Any]:
    key, operator = draw(KEYS), draw(st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]))
    match operator:
        case "In" | "NotIn":
            return {"key": key, "operator": operator, "values": draw(st.lists(VALUES, min_size=1, max_size=3))}
        case "Gt" | "Lt":
            return {"key": key, "operator": operator, "values": [draw(st.sampled_from(["0", "5", "x"]))]}
        case _:
            return {"key": key, "operator": operator}


@st.composite
def terms(draw: st.DrawFn) -> dict[str, Any]:
    term: dict[str, Any] = {}
    if draw(st.booleans()):
        term["matchExpressions"] = draw(st.lists(expressions(), max_size=3))
    if draw(st.booleans()):
        name = draw(st.sampled_from(["n1", "n2"]))
        term["matchFields"] = [
            {"key": "metadata.name", "operator": draw(st.sampled_from(["In", "NotIn"])), "values": [name]}
        ]
    return term


@st.composite
def pod_specs(draw: st.DrawFn) -> dict[str, Any]:
    spec: dict[str, Any] = {}
    if draw(st.booleans()):
        spec["nodeSelector"] = draw(LABELS)
    affinity: dict[str, Any] = {}
    if draw(st.booleans()):
        affinity["nodeAffinity"] = {REQUIRED: {"nodeSelectorTerms": draw(st.lists(terms(), min_size=1, max_size=3))}}
    if draw(st.booleans()):
        affinity.setdefault("nodeAffinity", {})["preferredDuringSchedulingIgnoredDuringExecution"] = [{"weight": 1}]
    if draw(st.booleans()):
        affinity["podAntiAffinity"] = {REQUIRED: [{"topologyKey": "zone"}]}
    if affinity or draw(st.booleans()):
        spec["affinity"] = affinity or None
    return spec


def narrowed(spec: dict[str, Any], labels: dict[str, str]) -> dict[str, Any]:
    return {**spec, "affinity": narrow(spec, labels)}


@settings(deadline=None)
@given(pod_specs(), LABELS, LABELS, st.sampled_from(["n1", "n2"]))
def test_a_narrowed_pod_matches_exactly_the_nodes_that_both_sides_allow(
    spec: dict[str, Any], labels: dict[str, str], node_labels: dict[str, str], node: str
) -> None:
    in_cell = all(node_labels.get(key) == value for key, value in labels.items())
    allowed = matches_node(spec, node_labels, node)
    assert matches_node(narrowed(spec, labels), node_labels, node) == (allowed and in_cell)


@settings(deadline=None)
@given(pod_specs(), LABELS, LABELS, st.sampled_from(["n1", "n2"]))
def test_a_confined_pod_matches_them_too_and_lists_of_its_user_and_their_selector_stay(
    spec: dict[str, Any], labels: dict[str, str], node_labels: dict[str, str], node: str
) -> None:
    after = {**spec, **confine(spec, labels)}
    assert matches_node(after, node_labels, node) == matches_node(narrowed(spec, labels), node_labels, node)
    assert not confine(after, labels)
    selector, terms = spec.get("nodeSelector") or {}, terms_of(spec)
    assert selector.items() <= (after.get("nodeSelector") or {}).items()
    if terms and not any(selector.get(key, value) != value for key, value in labels.items()):
        assert terms_of(after) == terms


@settings(deadline=None)
@given(pod_specs(), LABELS.filter(bool), LABELS, st.sampled_from(["n1", "n2"]))
def test_whoever_starts_it_without_the_planner_confines_a_pod_to_a_zone_as_the_operator_does(
    spec: dict[str, Any], labels: dict[str, str], node_labels: dict[str, str], node: str
) -> None:
    zone = {"metadata": {"name": "paris"}, "spec": {"jurisdiction": "FR", "nodeSelector": labels}}
    theirs, ours = confined(spec, "FR", [zone]), confine(spec, labels)
    assert theirs.keys() == ours.keys()
    assert theirs.get("nodeSelector") == ours.get("nodeSelector")
    both = ({**spec, **theirs}, {**spec, **ours})
    assert matches_node(both[0], node_labels, node) == matches_node(both[1], node_labels, node)


def terms_of(spec: dict[str, Any]) -> Any:
    return (((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(REQUIRED) or {}).get("nodeSelectorTerms")


@settings(deadline=None)
@given(pod_specs(), LABELS)
def test_narrowing_twice_changes_nothing_more(spec: dict[str, Any], labels: dict[str, str]) -> None:
    once = narrowed(spec, labels)
    assert narrow(once, labels) == once["affinity"]


@settings(deadline=None)
@given(pod_specs(), LABELS)
def test_everything_the_user_wrote_is_kept_in_its_place(spec: dict[str, Any], labels: dict[str, str]) -> None:
    before = copy.deepcopy(spec)
    after = narrow(spec, labels)
    assert spec == before, "the input must not be changed"
    old = spec.get("affinity") or {}
    old_node, new_node = old.get("nodeAffinity") or {}, after.get("nodeAffinity") or {}
    assert {k: v for k, v in after.items() if k != "nodeAffinity"} == {
        k: v for k, v in old.items() if k != "nodeAffinity"
    }
    assert {k: v for k, v in new_node.items() if k != REQUIRED} == {k: v for k, v in old_node.items() if k != REQUIRED}
    new_terms = new_node.get(REQUIRED, {}).get("nodeSelectorTerms", [])
    for index, term in enumerate(old_node.get(REQUIRED, {}).get("nodeSelectorTerms", [])):
        written = term.get("matchExpressions", [])
        assert new_terms[index].get("matchExpressions", [])[: len(written)] == written
        assert new_terms[index].get("matchFields") == term.get("matchFields")


def test_both_alternatives_are_confined() -> None:
    spec = {
        "affinity": {
            "nodeAffinity": {
                REQUIRED: {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["h100"]}]},
                        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]},
                    ]
                }
            }
        }
    }
    ours = {"key": "zone", "operator": "In", "values": ["west"]}
    new_terms = narrow(spec, {"zone": "west"})["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]
    assert [ours in term["matchExpressions"] for term in new_terms] == [True, True]


def test_terms_are_alternatives_and_all_that_stands_in_one_is_asked_for() -> None:
    gpu, hall = ({"key": key, "operator": "In", "values": ["a"]} for key in ("gpu", "hall"))
    either = {
        "affinity": {
            "nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [e]} for e in (gpu, hall)]}}
        }
    }
    both = {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [gpu, hall]}]}}}}
    for labels in ({"gpu": "a"}, {"hall": "a"}):
        assert matches_node(either, labels, "n1")
        assert not matches_node(both, labels, "n1")
    assert not matches_node(either, {"zone": "a"}, "n1")


def test_a_term_without_requirements_matches_no_node_before_and_after() -> None:
    spec: dict[str, Any] = {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{}]}}}}
    assert not matches_node(spec, {"zone": "west"}, "n1")
    assert not matches_node(narrowed(spec, {"zone": "west"}), {"zone": "west"}, "n1")


@pytest.mark.parametrize(
    ("operator", "values", "label", "matches"),
    [
        ("In", ["a", "b"], "b", True),
        ("In", ["a"], None, False),
        ("NotIn", ["a"], None, True),
        ("NotIn", ["a"], "a", False),
        ("Exists", [], "x", True),
        ("Exists", [], None, False),
        ("DoesNotExist", [], None, True),
        ("DoesNotExist", [], "x", False),
        ("Gt", ["9"], "10", True),
        ("Gt", ["10"], "10", False),
        ("Lt", ["10"], "9", True),
        ("Lt", ["10"], "-1", True),
        ("Gt", ["1"], "1_0", False),
        ("Gt", ["1"], None, False),
        ("Gt", ["1", "2"], "5", False),
        ("Near", ["a"], "a", False),
    ],
)
def test_operators_mean_what_the_scheduler_means(
    operator: str, values: list[str], label: str | None, matches: bool
) -> None:
    term = {"matchExpressions": [{"key": "k", "operator": operator, "values": values}]}
    spec = {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [term]}}}}
    assert matches_node(spec, {"k": label} if label is not None else {}, "n1") is matches
