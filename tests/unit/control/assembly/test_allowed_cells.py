# SPDX-License-Identifier: Apache-2.0
"""Where work may go: residency, its own constraints, taints, and cells whose labels would let it elsewhere."""

from dataclasses import replace
from datetime import timedelta

import pytest

from embellie.cluster.records import parse_node
from embellie.cluster.taints import Taint
from embellie.control.telling.zone_status import grid_zone_status
from embellie.domain.reasons import Reason
from embellie_testbed.views import (
    NOW,
    ROW,
    ZONE,
    assembled,
    grid_zone,
    job,
    node,
    nodes,
    only,
    thermal_zone,
    view,
    with_borders,
)


@pytest.mark.parametrize(
    ("residency", "allowed"),
    [
        ("US-CA", {"west"}),
        ("US", {"west"}),
        ("FR, US", {"west", "east"}),
        ("fr", {"east"}),
        ("DE", set()),
        (",", set()),
    ],
)
def test_residency_leaves_only_cells_that_lie_inside(residency: str, allowed: set[str]):
    found = only(job(residency=residency), grid_zones=with_borders())
    assert found.allowed_cells == allowed
    assert (found.start_now is Reason.RESIDENCY_UNSATISFIED) is (not allowed)


def test_a_zone_that_does_not_say_where_it_lies_satisfies_no_residency():
    nowhere = (grid_zone("west", jurisdiction=None), grid_zone("east", jurisdiction="FR"))
    assert only(job(residency="FR"), grid_zones=nowhere).allowed_cells == {"east"}
    assert only(job(), grid_zones=nowhere).allowed_cells == {"west", "east"}


def test_zones_that_share_nodes_keep_nobody_inside_a_border():
    zones = (
        *with_borders(),
        grid_zone("also", created="2026-02-01T00:00:00Z", nodeSelector={ZONE: "west"}, jurisdiction="FR"),
    )
    assert only(job(residency="US-CA"), grid_zones=zones).start_now is Reason.RESIDENCY_UNSATISFIED
    assert only(job(residency="FR"), grid_zones=zones).allowed_cells == {"east"}
    assert only(job(), grid_zones=zones).allowed_cells == {"west", "east"}


def test_a_residency_that_is_met_where_the_user_excludes_every_node_is_no_zone():
    found = only(job(residency="FR", pod_spec={"nodeSelector": {ZONE: "west"}}), grid_zones=with_borders())
    assert found.start_now is Reason.NO_ZONE


def test_a_gang_larger_than_any_cell_is_not_kept_waiting_though_it_must_stay_in_its_residency():
    for border in ({}, {"residency": "FR"}):
        fits, does_not = (only(job(pods=pods, **border), grid_zones=with_borders()) for pods in (4, 5))
        assert fits.start_now is None
        assert (does_not.allowed_cells, does_not.start_now) == (frozenset(), Reason.NO_ZONE)


def test_a_zone_without_nodes_still_lies_where_it_lies():
    found = only(view=view(job(residency="FR"), on=nodes(("west",))), grid_zones=with_borders())
    assert (found.allowed_cells, found.start_now) == (frozenset(), Reason.NO_ZONE)


def test_the_users_own_constraints_and_the_size_of_its_pods_narrow_the_with_borders():
    on = (*nodes(("west",)), node("east-0", gpus=4))
    here = {"nodeSelector": {ZONE: "west"}}
    assert only(view=view(job(pod_spec=here), on=on)).allowed_cells == {"west"}
    assert only(view=view(job(gpus=8), on=on)).allowed_cells == {"west"}
    assert only(view=view(job(gpus=4), on=on)).allowed_cells == {"west", "east"}
    assert only(view=view(job(gpus=16), on=on)).start_now is Reason.NO_ZONE
    expression = {"key": ROW, "operator": "NotIn", "values": ["west-r1"]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    away = {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}
    assert only(view=view(job(gpus=4, pod_spec=away), on=on)).allowed_cells == {"east"}


def test_workloads_with_different_constraints_get_different_answers_in_one_turn():
    here, there = ({"nodeSelector": {ZONE: zone}} for zone in ("west", "east"))
    found = assembled(job("a", pod_spec=here), job("b", pod_spec=there), job("c"), job("d", residency="FR"))
    allowed = {w.key.name: set(w.allowed_cells) for w in found.snapshot.workloads}
    assert allowed == {"a": {"west"}, "b": {"east"}, "c": {"west", "east"}, "d": set()}


def tainted(key: str, value: str = "", effect: str = "NoSchedule", names: tuple[str, ...] = ("west",)) -> tuple:
    taint = Taint(key=key, value=value, effect=effect)
    return tuple(replace(n, taints=(taint,)) if n.labels[ZONE] in names else n for n in nodes())


def goes(on: tuple, *tolerations: dict[str, str], gpus: int = 8) -> set[str]:
    return set(only(view=view(job(gpus=gpus, pod_spec={"tolerations": list(tolerations)}), on=on)).allowed_cells)


@pytest.mark.parametrize(
    ("toleration", "suffices"),
    [
        ({"key": "team", "operator": "Equal", "value": "vision", "effect": "NoSchedule"}, True),
        ({"key": "team", "value": "vision"}, True),
        ({"key": "team", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"operator": "Exists", "effect": "NoSchedule"}, True),
        ({"key": "team", "value": "research"}, False),
        ({"key": "team"}, False),
        ({"key": "crew", "operator": "Exists"}, False),
        ({"key": "team", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "team", "operator": "Gt", "value": "vision"}, False),
        ({"operator": "Equal"}, False),
    ],
)
def test_a_cell_of_tainted_nodes_is_only_for_work_that_tolerates_them(toleration: dict[str, str], suffices: bool):
    on = tainted("team", "vision")
    assert goes(on) == {"east"}
    assert goes(on, toleration) == ({"west", "east"} if suffices else {"east"})


def test_every_taint_of_a_node_must_be_tolerated_and_one_such_node_is_enough():
    first = {"key": "team", "operator": "Exists"}
    more = Taint(key="repair", effect="NoExecute")
    both = tuple(replace(n, taints=(*n.taints, more)) if n.taints else n for n in tainted("team"))
    assert goes(both, first) == {"east"}
    assert goes(both, first, {"key": "repair", "operator": "Exists"}) == {"west", "east"}
    assert goes((*both, node("west-9"))) == {"west", "east"}


def test_work_that_tolerates_no_node_is_not_kept_waiting_for_one():
    found = only(view=view(job(), on=tainted("team", names=("west", "east"))))
    assert (found.allowed_cells, found.start_now) == (frozenset(), Reason.NO_ZONE)


def test_a_taint_of_the_gpu_resource_turns_away_only_pods_without_gpus():
    on = tainted("nvidia.com/gpu", "present")
    assert goes(on) == {"west", "east"}
    assert goes(on, gpus=0) == {"east"}
    assert goes(on, {"key": "nvidia.com/gpu", "operator": "Exists"}, gpus=0) == {"west", "east"}
    assert goes(tainted("nvidia.com/gpu", effect="NoExecute")) == {"east"}


def asking(gpus: int = 1, init: dict[str, str] | None = None, **pod_spec: object) -> dict[str, object]:
    """A pod with one device of a network card beside its GPUs."""
    gpu = {"nvidia.com/gpu": str(gpus)} if gpus else {}
    first = {"name": "first", "resources": {"requests": {"rdma/hca": "1", "cpu": "2"}, "limits": gpu}}
    sidecar = {"name": "sidecar", "resources": {"limits": {"rdma/hca": "0"}}}
    return {"containers": [first, sidecar], "initContainers": [{"resources": {"limits": init or {}}}], **pod_spec}


def test_work_goes_only_where_a_node_offers_all_the_devices_that_it_asks_for():
    on = tuple(replace(n, devices=frozenset({"rdma/hca"})) if n.labels[ZONE] == "west" else n for n in nodes())
    a, b, c = job("a", pod_spec=asking()), job("b"), job("c", pod_spec=asking(init={"example.com/fpga": "1"}))
    found = assembled(view=view(a, b, c, on=on)).snapshot
    allowed = {w.key.name: set(w.allowed_cells) for w in found.workloads}
    assert allowed == {"a": {"west"}, "b": {"west", "east"}, "c": set()}
    nowhere = next(w for w in found.workloads if w.key.name == "c")
    assert nowhere.start_now is Reason.NO_ZONE
    assert nowhere.start_now_message.endswith("It asks for 1 GPU, example.com/fpga, rdma/hca.")


def test_a_node_offers_what_it_has_some_of():
    amounts = {"cpu": "96", "nvidia.com/gpu": "8", "rdma/hca": "4", "hugepages-2Mi": "0", "vendor.com/gone": 0}
    raw = {"metadata": {"name": "n"}, "status": {"allocatable": amounts}}
    found = parse_node(raw)
    assert found is not None
    assert found.devices == {"rdma/hca"}


def test_work_whose_gpus_may_be_claimed_is_not_planned_as_if_it_had_none():
    claims = {"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "eight"}]}
    claimed = only(job(gpus=0, pod_spec=claims))
    assert (claimed.allowed_cells, claimed.start_now) == (frozenset(), Reason.NO_ZONE)
    assert claimed.start_now_message.endswith("It asks for resource claims.")
    assert only(job(gpus=8, pod_spec=claims)).allowed_cells == {"west", "east"}


def test_tolerations_tell_workloads_of_one_turn_apart_and_the_same_ones_share_an_object():
    mine = {"tolerations": [{"key": "team", "operator": "Exists"}]}
    momentary = {"tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}]}
    a, b, c, d = job("a", pod_spec=mine), job("b", pod_spec=mine), job("c"), job("d", pod_spec=momentary)
    found = assembled(view=view(a, b, c, d, on=tainted("team"))).snapshot
    both, east = {"west", "east"}, {"east"}
    assert {w.key.name: set(w.allowed_cells) for w in found.workloads} == {"a": both, "b": both, "c": east, "d": east}
    assert a.constraints is b.constraints
    assert c.constraints is d.constraints


def test_no_work_is_sent_to_a_cell_whose_labels_let_it_into_a_hot_row():
    on = (*nodes(), node("west-9", **{ROW: "west-r2"}))
    rows = (thermal_zone("west-r1"),)
    assert only(view=view(job(), on=on), thermal_zones=rows).allowed_cells == {"west.west-r1", "east"}
    rows = (*rows, thermal_zone("west-r2"))
    mended = only(view=view(job(), on=on), thermal_zones=rows).allowed_cells
    assert mended == {"west.west-r1", "west.west-r2", "east"}


def test_a_zone_with_a_leaking_cell_says_so_and_how_to_mend_it():
    on = (*nodes(), node("west-9", **{ROW: "west-r2"}))
    made = assembled(view=view(on=on), thermal_zones=(thermal_zone("west-r1"),))
    west, east = (
        next(c for c in grid_zone_status(zone, made, {}, NOW).conditions if c.type == "NodesExclusive")
        for zone in made.grid_zones
    )
    assert (str(west.status), west.reason) == ("False", "LeakingCell")
    assert "4 nodes of other cells (west-0, west-1, west-2...)" in west.message
    assert "Give every node of the zone a ThermalZone, or labels that tell them apart." in west.message
    assert str(east.status) == "True"
    told = made.grid_zones[0].model_copy(update={"status": grid_zone_status(made.grid_zones[0], made, {}, NOW)})
    again = grid_zone_status(told, made, {}, NOW + timedelta(hours=1))
    assert next(c for c in again.conditions if c.type == "NodesExclusive") == west, "the condition did not change"
