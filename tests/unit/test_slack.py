# SPDX-License-Identifier: Apache-2.0
"""The guard before any hold: nobody is held once the list of all known work would start somebody too late."""

import numpy as np
import pytest

from embellie.planning.slack import out_of_slack


def must(latest_h: list[float], *, gpus: list[float] | None = None, hours: float = 2.0, **told: object) -> list[bool]:
    count = len(latest_h)
    basics: dict[str, object] = {
        "gpus": np.array(gpus or [4.0] * count),
        "hours": np.full(count, hours),
        "latest_h": np.array(latest_h),
        "capacity_gpus": 4.0,
        "busy_gpus": np.zeros(0),
        "busy_h": np.zeros(0),
        "begin_h": 1.0,
    }
    return out_of_slack(**(basics | told)).tolist()  # type: ignore[arg-type]


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


@pytest.mark.parametrize("seed", range(5))
def test_more_gpus_never_make_more_work_pressing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    latest = rng.uniform(1, 20, 40).tolist()
    few, many = (must(latest, gpus=[1.0] * 40, capacity_gpus=float(n)) for n in (4, 8))
    assert sum(many) <= sum(few)
