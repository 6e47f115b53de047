# SPDX-License-Identifier: Apache-2.0
"""Many calls to the API server at a time, none of them begun too late."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Done = TypeVar("Done")

BEGIN_WITHIN_S = 60.0
"""What nobody gave a time for is begun within so long, or not at all [s]."""


def side_by_side(
    do: Callable[[Item], Done],
    items: Sequence[Item],
    *,
    threads: int,
    begin_within_s: float,
    may_begin: Callable[[], bool] = lambda: True,
    monotonic: Callable[[], float] = time.monotonic,
) -> list[Done | None]:
    """Do something with each item, in their order; return what came of each, None for what was not begun.

    Nothing is begun after `begin_within_s`, nor once `may_begin` says no. What was begun is waited for.
    """
    begin_until = monotonic() + begin_within_s
    done: list[Done | None] = [None] * len(items)
    # One iterator for all threads: of thousands of items, those that the time does not suffice for cost nothing.
    todo = iter(range(len(items)))

    def work() -> None:
        for at in todo:
            if monotonic() >= begin_until or not may_begin():
                return
            done[at] = do(items[at])

    with ThreadPoolExecutor(threads, thread_name_prefix="side-by-side") as pool:
        workers = [pool.submit(work) for _ in range(min(threads, len(items)))]
    for worker in workers:
        worker.result()
    return done
