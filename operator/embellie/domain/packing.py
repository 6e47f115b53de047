# SPDX-License-Identifier: Apache-2.0
"""Whether a gang's pods fit onto nodes: a count of nodes by their free GPUs, filled best fit.

The cluster's scheduler places the pods; this only keeps us from releasing a gang that no arrangement can seat now.
"""

from collections.abc import Iterable


class NodeRoom:
    """Free GPUs of a cell's nodes, as how many nodes have 0, 1, 2, ... GPUs free."""

    __slots__ = ("_counts", "_seats")

    def __init__(self, node_free_gpus: Iterable[int]) -> None:
        free = [max(0, gpus) for gpus in node_free_gpus]
        self._counts = [0] * (max(free, default=0) + 1)
        for gpus in free:
            self._counts[gpus] += 1
        self._seats: dict[int, int] = {}
        """What `seats` found since nodes last changed: thousands of workloads ask alike."""

    def seats(self, gpus_per_pod: int) -> int:
        """Return how many pods of `gpus_per_pod` GPUs fit (each pod needs one node); unlimited for 0 GPUs."""
        if gpus_per_pod <= 0:
            return 1 << 62
        found = self._seats.get(gpus_per_pod)
        if found is None:
            found = sum(count * (gpus // gpus_per_pod) for gpus, count in enumerate(self._counts) if count)
            self._seats[gpus_per_pod] = found
        return found

    def fits(self, pods: int, gpus_per_pod: int) -> bool:
        """Return whether the whole gang fits."""
        return self.seats(gpus_per_pod) >= pods

    def take(self, pods: int, gpus_per_pod: int) -> list[tuple[int, int]]:
        """Seat a gang on the fullest nodes that still have room, and return (GPUs free before, nodes) per step.

        Pods that do not fit are left out: the caller asks `fits` first where that matters.
        """
        taken: list[tuple[int, int]] = []
        if gpus_per_pod <= 0:
            return taken
        self._seats.clear()
        counts = self._counts
        free = gpus_per_pod
        while pods > 0 and free < len(counts):
            nodes = min(pods, counts[free])
            if nodes == 0:
                free += 1
                continue
            counts[free] -= nodes
            counts[free - gpus_per_pod] += nodes
            taken.append((free, nodes))
            pods -= nodes
            free = max(gpus_per_pod, free - gpus_per_pod)
        return taken
