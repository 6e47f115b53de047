# SPDX-License-Identifier: Apache-2.0
"""Which node belongs where, and who holds which GPUs: nothing is counted twice and nothing given away twice."""

from dataclasses import replace
from datetime import timedelta

import pytest

from embellie.cluster.records import parse_node
from embellie.cluster.taints import Taint
from embellie.control.assembly.layout import cell_name, lay_out
from embellie.control.assembly.occupancy import Occupancy, watts_or
from embellie.domain.snapshot import Cell
from embellie_testbed.views import (
    NOW,
    ROW,
    ZONE,
    assembled,
    bare_pod,
    grid_zone,
    job,
    node,
    nodes,
    running_pod,
    thermal_zone,
    view,
)

HOUR = timedelta(hours=1)
OLD, YOUNG = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"


def occupied(*workloads, pods=(), on=None, **changes) -> Occupancy:
    ours = {w.key.uid: NOW for w in workloads}
    return assembled(view=view(*workloads, pods=pods, on=on), **{"bounds": ours, **changes}).occupancy


def free(occupancy: Occupancy, cell: str = "west") -> int:
    return next(c for c in occupancy.cells if c.name == cell).gpus_free


def test_a_cell_is_a_grid_zone_and_a_thermal_zone_and_carries_the_labels_of_both():
    layout = lay_out([grid_zone("west")], [thermal_zone("west-r1")], nodes(("west",)))
    (cell,) = layout.cells
    assert cell.name == "west.west-r1" == cell_name("west", "west-r1")
    assert cell.placement_labels == {ZONE: "west", ROW: "west-r1"}
    assert len(cell.nodes) == 4


def test_nodes_of_one_grid_zone_in_two_rows_are_two_cells():
    rows = [node("west-0"), node("west-1", **{ROW: "west-r2"}), node("west-2", **{ROW: "elsewhere"})]
    layout = lay_out([grid_zone("west")], [thermal_zone("west-r1"), thermal_zone("west-r2")], rows)
    assert [c.name for c in layout.cells] == ["west", "west.west-r1", "west.west-r2"]
    assert layout.cell_of_node == {"west-0": "west.west-r1", "west-1": "west.west-r2", "west-2": "west"}


def test_a_node_in_two_grid_zones_belongs_to_the_oldest_and_both_are_told():
    mine, other = grid_zone("young", created=YOUNG, nodeSelector={ZONE: "west"}), grid_zone("west", created=OLD)
    layout = lay_out([mine, other], [], nodes(("west",)))
    assert [c.name for c in layout.cells] == ["west"]
    assert "young" not in layout.nodes_of_grid_zone
    everything = tuple(f"west-{i}" for i in range(4))
    assert layout.shared_grid_nodes == {"west": everything, "young": everything}
    assert sum(n.gpus for c in layout.cells for n in c.nodes) == 32


def test_among_zones_of_one_age_the_first_in_the_alphabet_has_the_node():
    layout = lay_out(
        [grid_zone("b", nodeSelector={ZONE: "west"}), grid_zone("a", nodeSelector={ZONE: "west"})], [], nodes()
    )
    assert {c.grid_zone for c in layout.cells} == {"a"}


def test_a_node_in_two_thermal_zones_belongs_to_the_oldest_and_both_are_told():
    hall = thermal_zone("hall", created=YOUNG, nodeSelector={ZONE: "west"})
    layout = lay_out([grid_zone("west")], [hall, thermal_zone("west-r1", created=OLD)], nodes(("west",)))
    assert [c.thermal_zone for c in layout.cells] == ["west-r1"]
    assert set(layout.shared_thermal_nodes) == {"hall", "west-r1"}


def test_nodes_outside_every_grid_zone_are_in_no_cell_but_heat_their_row():
    layout = lay_out([grid_zone("east")], [thermal_zone("west-r1")], nodes())
    assert {c.name for c in layout.cells} == {"east"}
    assert len(layout.nodes_of_thermal_zone["west-r1"]) == 4
    assert "west-0" not in layout.cell_of_node


def leaks(grids, thermals=(), on=None) -> dict[str, tuple[str, ...]]:
    return {c.name: c.leaks for c in lay_out(grids, thermals, nodes() if on is None else on).cells if c.leaks}


def test_cells_whose_labels_match_only_their_own_nodes_do_not_leak():
    zones = [grid_zone("west"), grid_zone("east")]
    assert leaks(zones) == {}
    assert leaks(zones, [thermal_zone("west-r1"), thermal_zone("east-r1")]) == {}
    assert leaks(zones, [thermal_zone("west-r1")]) == {}


def test_a_cell_without_a_thermal_zone_leaks_into_the_rows_of_its_grid_zone():
    rows = [node("west-0"), node("west-1", **{ROW: "west-r2"}), node("west-2", **{ROW: "elsewhere"})]
    thermals = [thermal_zone("west-r1"), thermal_zone("west-r2")]
    assert leaks([grid_zone("west")], thermals, rows) == {"west": ("west-0", "west-1")}


def test_a_wide_zone_leaks_into_the_older_narrower_one_and_not_the_other_way_round():
    part = {ZONE: "west", "example.com/hall": "a"}
    rows = [node("west-0", **{"example.com/hall": "a"}), node("west-1")]
    narrow = grid_zone("narrow", created=OLD, nodeSelector=part)
    assert leaks([narrow, grid_zone("west", created=YOUNG)], on=rows) == {"west": ("west-0",)}
    row = thermal_zone("row", created=OLD, nodeSelector=part)
    hall = thermal_zone("hall", created=YOUNG, nodeSelector={ZONE: "west"})
    assert leaks([grid_zone("west")], [row, hall], rows) == {"west.hall": ("west-0",)}


def test_labels_that_tell_the_rows_apart_mend_a_leak():
    rows = [node("west-0"), node("west-1", **{ROW: "west-r2"})]
    assert leaks([grid_zone("west")], [thermal_zone("west-r1")], rows) == {"west": ("west-0",)}
    apart = [grid_zone("west", nodeSelector={ZONE: "west", ROW: "west-r2"})]
    assert leaks(apart, [thermal_zone("west-r1")], rows) == {}
    assert leaks([grid_zone("west")], [thermal_zone("west-r1"), thermal_zone("west-r2")], rows) == {}


def raw_node(*taints: dict[str, str], **spec: object) -> dict:
    ready = [{"type": "Ready", "status": "True"}]
    return {
        "metadata": {"name": "west-0"},
        "spec": {"taints": list(taints), **spec},
        "status": {"allocatable": {"nvidia.com/gpu": "8"}, "conditions": ready},
    }


def test_a_node_keeps_the_taints_that_last_and_turn_pods_away():
    found = parse_node(
        raw_node(
            {"key": "team", "value": "vision", "effect": "NoSchedule"},
            {"key": "repair", "effect": "NoExecute"},
            {"key": "old", "effect": "PreferNoSchedule"},
            {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"},
            {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},
        )
    )
    assert found is not None
    assert found.taints == (
        Taint(key="team", value="vision", effect="NoSchedule"),
        Taint(key="repair", effect="NoExecute"),
    )


def test_the_layout_does_not_depend_on_the_order_of_what_is_listed():
    zones, rows = [grid_zone("west"), grid_zone("east")], [thermal_zone("west-r1"), thermal_zone("east-r1")]
    assert lay_out(zones, rows, nodes()) == lay_out(zones[::-1], rows[::-1], nodes()[::-1])


def test_bound_pods_take_their_gpus_and_pods_elsewhere_take_none():
    pods = [running_pod("a", "west-0", gpus=3), running_pod("b", "nowhere", gpus=8), running_pod("c", "", gpus=8)]
    found = occupied(pods=pods)
    assert (free(found), free(found, "east")) == (29, 32)
    assert [(g.cell, g.gpus) for g in found.running] == [("west", 3)]


def test_the_pods_of_a_job_in_one_cell_are_one_gang_since_the_first_of_them():
    train = job(held=False, suspended=False, pods=3, duration="3h", released_at="x", cell="west")
    pods = [
        running_pod("a", "west-0", job_uid=train.key.uid, started=NOW - HOUR),
        running_pod("b", "west-1", job_uid=train.key.uid, started=NOW - 2 * HOUR),
        running_pod("c", "west-2", job_uid=train.key.uid, started=NOW),
    ]
    (gang,) = occupied(train, pods=pods).running
    assert (gang.gpus, gang.started_at) == (24, NOW - 2 * HOUR)
    assert gang.expected_end_p50 == NOW + HOUR


def test_released_work_that_is_not_bound_yet_keeps_its_place():
    train = job(held=False, suspended=False, pods=2, released_at="x", cell="west")
    found = occupied(train)
    assert (free(found), free(found, "east")) == (16, 32)
    assert [(g.cell, g.gpus, g.started_at) for g in found.running] == [("west", 16, NOW)]


def test_released_work_that_is_partly_bound_is_counted_once():
    train = job(held=False, suspended=False, pods=2, released_at="x", cell="west")
    found = occupied(train, pods=[running_pod("a", "west-0", job_uid=train.key.uid)])
    assert free(found) == 16
    assert [g.gpus for g in found.running] == [16]


def test_a_bare_pod_that_was_released_is_counted_once_before_and_after_it_is_bound():
    probe = bare_pod(held=False, gpus=4, released_at="x", cell="west")
    before = occupied(probe)
    after = occupied(probe, pods=[running_pod("probe", "west-0", gpus=4, uid=probe.key.uid)])
    assert free(before) == free(after) == 28
    assert [g.gpus for g in after.running] == [4]


@pytest.mark.parametrize(
    "record",
    [
        job(cell="west"),
        job(held=False, suspended=True, cell="west"),
        job(held=False, suspended=False, cell="nowhere"),
        job(held=False, suspended=False),
        job(held=False, suspended=False, cell="west", status={"conditions": [{"type": "Failed", "status": "True"}]}),
        job(held=False, suspended=False, cell="west", pods=4, status={"succeeded": 4}),
        bare_pod(held=True, cell="west"),
    ],
    ids=["held", "suspended by its user", "in no cell", "without a cell", "failed", "winding down", "gated"],
)
def test_work_that_does_not_start_keeps_no_place(record):
    assert free(occupied(record)) == 32


def test_more_than_a_cell_has_is_taken_without_going_below_nothing():
    train = job(held=False, suspended=False, pods=9, released_at="x", cell="west")
    crowd = [running_pod(str(i), "west-0", gpus=8) for i in range(3)]
    found = occupied(train, pods=crowd)
    cell: Cell = next(c for c in found.cells if c.name == "west")
    assert cell.node_free_gpus == (0, 0, 0, 0)


def test_a_cordoned_node_offers_nothing_and_its_work_still_counts():
    on = [node("west-0", schedulable=False), node("west-1")]
    found = occupied(pods=[running_pod("a", "west-0", gpus=8)], on=on)
    (cell,) = [c for c in found.cells if c.name == "west"]
    assert (cell.gpus_total, cell.gpus_free) == (8, 8)
    assert [g.gpus for g in found.running] == [8]


def test_an_overdue_gang_is_expected_to_go_on_for_a_quarter_of_what_it_ran():
    (gang,) = occupied(pods=[running_pod("a", "west-0", started=NOW - 100 * HOUR)]).running
    assert gang.expected_end_p50 == gang.expected_end_p90 == NOW + 25 * HOUR


def test_nodes_in_two_zones_are_not_counted_twice():
    zones = (grid_zone("west"), grid_zone("again", created=YOUNG, nodeSelector={ZONE: "west"}))
    found = occupied(grid_zones=zones, on=nodes(("west",)))
    assert sum(c.gpus_total for c in found.cells) == 32


@pytest.mark.parametrize(
    ("text", "watts"),
    [
        ("450", 450.0),
        ("", 700.0),
        ("much", 700.0),
        ("NaN", 700.0),
        ("inf", 700.0),
        ("-5", 700.0),
        ("1e9", 700.0),
        ("9", 700.0),
    ],
)
def test_absurd_watts_per_gpu_are_the_zones_rated_power(text: str, watts: float):
    assert watts_or(text, 700.0) == watts


def test_a_job_with_more_pods_to_come_keeps_the_place_of_those_that_ended():
    train = job(held=False, suspended=False, released_at="x", cell="west", pods=4, status={"succeeded": 2})
    more = replace(train, completions=100)
    assert free(occupied(more)) == 0
    assert free(occupied(train)) == 16


def test_a_release_that_the_watch_has_not_shown_yet_already_has_its_place():
    waiting = job(pods=2)
    assert free(occupied(waiting, in_flight={waiting.key.uid: "west"})) == 16


def test_nobody_takes_places_with_an_annotation_of_his_own():
    stranger = job(held=False, suspended=False, flex="", released_at="x", cell="west", pods=4)
    assert free(occupied(stranger, bounds={})) == 32
