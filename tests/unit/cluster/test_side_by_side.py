# SPDX-License-Identifier: Apache-2.0
"""Many calls at a time: each item has its own answer, and what cannot be begun in time is told from what was done."""

import itertools
import threading

import pytest

from embellie.cluster.side_by_side import side_by_side


def test_each_item_has_what_came_of_it_in_its_place_whoever_is_done_first():
    second_is_done = threading.Event()

    def do(item: int) -> int:
        if item == 0:
            assert second_is_done.wait(10.0)
        second_is_done.set()
        return 10 * item

    assert side_by_side(do, [0, 1, 2], threads=2, begin_within_s=10.0) == [0, 10, 20]


def test_so_many_are_done_at_a_time_as_there_are_threads():
    together = threading.Barrier(4, timeout=10.0)
    assert sorted(side_by_side(lambda _: together.wait(), "abcd", threads=4, begin_within_s=10.0)) == [0, 1, 2, 3]


def test_what_is_not_begun_in_time_is_not_done():
    clock = itertools.chain([0.0, 0.9], itertools.repeat(1.0))
    done = side_by_side(str, [1, 2, 3], threads=1, begin_within_s=1.0, monotonic=lambda: next(clock))
    assert done == ["1", None, None]


def test_nothing_is_begun_once_the_caller_says_stop():
    begun: list[int] = []
    side_by_side(begun.append, range(5), threads=1, begin_within_s=10.0, may_begin=lambda: len(begun) < 2)
    assert begun == [0, 1]


def test_an_error_is_raised_after_all_that_was_begun_is_done():
    begun = threading.Barrier(2, timeout=10.0)
    done: list[int] = []

    def do(item: int) -> None:
        begun.wait()
        if item == 0:
            raise ValueError("no")
        done.append(item)

    with pytest.raises(ValueError, match="no"):
        side_by_side(do, [0, 1], threads=2, begin_within_s=10.0)
    assert done == [1]
