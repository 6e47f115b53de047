# SPDX-License-Identifier: Apache-2.0
"""The guard before any hold: nobody is held once the list of all known work would start somebody too late."""

from typing import Any

import numpy as np
import pytest

from embellie.planning.slack import Queue, give_way, slack_of


def queue(count: int, *, gpus: list[float] | None = None, hours: object = 2.0, **told: Any) -> Queue:
    basics: dict[str, Any] = {
        "gpus": np.array(gpus or [4.0] * count),
        "hours": np.broadcast_to(np.asarray(hours, dtype=np.float64), (count,)),
        "capacity_gpus": 4.0,
        "busy_gpus": np.zeros(0),
        "busy_h": np.zeros(0),
    }
    return Queue(**(basics | told))


def must(latest_h: list[float], **told: Any) -> list[bool]:
    return slack_of(queue(len(latest_h), **told), np.array(latest_h), 1.0).must_start.tolist()


def last(latest_h: list[float], **told: Any) -> list[bool]:
    return give_way(queue(len(latest_h), **told), np.array(latest_h)).tolist()


def test_work_that_still_fits_one_after_the_other_may_be_held() -> None:
    assert must([1.0, 3.0, 5.0]) == [False] * 3
    assert must([9.0, 9.0, 9.0]) == [False] * 3
    assert must([]) == []


def test_the_first_that_would_be_late_and_all_before_it_must_start() -> None:
    assert must([20.0, 1.0, 2.9]) == [False, True, True]
    assert must([5.0, 5.0, 4.9]) == [False, False, False]
    assert must([4.9, 4.9, 4.9]) == [True, True, True]


def test_runs_that_go_on_take_their_gpus_until_they_end() -> None:
    told = {"busy_gpus": np.array([4.0])}
    assert must([6.0], busy_h=np.array([6.0]), **told) == [False]
    assert must([5.9], busy_h=np.array([6.0]), **told) == [True]


def test_a_small_gang_does_not_overtake_a_large_one() -> None:
    assert must([3.0, 3.0, 3.0], gpus=[1.0, 4.0, 1.0]) == [True, True, True]
    assert must([1.0, 1.0, 1.0, 1.0], gpus=[1.0] * 4) == [False] * 4


def test_a_gang_larger_than_the_cluster_keeps_nobody_from_waiting() -> None:
    assert must([0.0, 9.0], gpus=[8.0, 4.0]) == [False, False]


def taken(latest_h: list[float], **told: Any) -> float:
    return slack_of(queue(len(latest_h), **told), np.array(latest_h), 1.0).taken


def test_slack_is_taken_by_those_before_in_the_list() -> None:
    assert taken([]) == taken([9.0]) == taken([1.0]) == 0.0
    assert taken([9.0, 9.0]) == pytest.approx(2.0 / 8.0)
    assert taken([9.0, 5.0, 6.0]) == pytest.approx(4.0 / 8.0)
    assert taken([3.0, 3.0]) == taken([1.0, 1.0]) == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_slack_that_has_run_out_is_all_taken(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for hours in rng.uniform(0.1, 3.0, 20):
        latest = rng.uniform(1.0, 20.0, 10).tolist()
        assert any(must(latest, hours=hours)) == (taken(latest, hours=hours) == 1.0)


@pytest.mark.parametrize("seed", range(5))
def test_more_gpus_never_make_more_work_pressing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    latest = rng.uniform(1, 20, 40).tolist()
    few, many = (must(latest, gpus=[1.0] * 40, capacity_gpus=float(n)) for n in (4, 8))
    assert sum(many) <= sum(few)


def test_nobody_gives_way_where_all_start_in_time() -> None:
    assert last([0.0, 2.0, 4.0]) == [False] * 3
    assert last([]) == []


def test_the_largest_gives_way_so_that_the_fewest_are_late() -> None:
    assert last([0.0, 1.0, 2.0, 3.0], hours=[40.0, 1.0, 1.0, 1.0]) == [True, False, False, False]
    assert last([0.0, 0.0, 0.0], hours=[1.0, 2.0, 3.0]) == [False, True, True]


def test_work_behind_the_last_late_one_keeps_its_turn_though_it_is_large() -> None:
    assert last([0.0, 0.0, 50.0], hours=[1.0, 2.0, 40.0]) == [False, True, False]


def test_a_narrow_job_does_not_give_way_for_being_long() -> None:
    assert last([0.0, 0.0, 5.0], gpus=[1.0, 3.0, 3.0], hours=[100.0, 10.0, 10.0]) == [False, True, False]


@pytest.mark.parametrize("seed", range(5))
def test_who_does_not_give_way_starts_in_time(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = 60
    jobs = queue(count, gpus=rng.choice([1.0, 2.0, 4.0], count).tolist(), hours=rng.exponential(2.0, count))
    latest = rng.uniform(0.0, 24.0, count)
    gone = give_way(jobs, latest)
    assert 0 < gone.sum() < count
    order = jobs.listed(latest)
    order = order[~gone[order]]
    assert np.all(jobs.starts(order, 0.0) <= latest[order] + 1e-9)
