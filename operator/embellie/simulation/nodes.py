# SPDX-License-Identifier: Apache-2.0
"""A cell's nodes while a replay runs: whole gangs, packed best fit, given back exactly."""

from bisect import bisect_left, insort


class NodePool:
    """Equal nodes, kept in buckets by their free GPUs; equal choices always fall on the lowest node."""

    __slots__ = ("_buckets", "_free", "free_gpus")

    def __init__(self, nodes: int, gpus_per_node: int) -> None:
        self._free = [gpus_per_node] * nodes
        self._buckets: list[list[int]] = [[] for _ in range(gpus_per_node + 1)]
        self._buckets[gpus_per_node] = list(range(nodes))
        self.free_gpus = nodes * gpus_per_node

    @property
    def node_free_gpus(self) -> tuple[int, ...]:
        """Free GPUs of each node."""
        return tuple(self._free)

    def fits(self, pods: int, gpus_per_pod: int) -> bool:
        """Return whether the whole gang fits."""
        if gpus_per_pod <= 0:
            return True
        if pods * gpus_per_pod > self.free_gpus:
            return False
        return sum(len(bucket) * (free // gpus_per_pod) for free, bucket in enumerate(self._buckets)) >= pods

    def take(self, pods: int, gpus_per_pod: int) -> list[int]:
        """Seat a gang that fits; return its node for each pod."""
        seats: list[int] = []
        if gpus_per_pod <= 0:
            return seats
        for _ in range(pods):
            free = next(f for f in range(gpus_per_pod, len(self._buckets)) if self._buckets[f])
            node = self._buckets[free][0]
            self._move(node, free - gpus_per_pod)
            seats.append(node)
        return seats

    def give_back(self, seats: list[int], gpus_per_pod: int) -> None:
        """Free a gang's GPUs."""
        for node in seats:
            self._move(node, self._free[node] + gpus_per_pod)

    def _move(self, node: int, free: int) -> None:
        bucket = self._buckets[self._free[node]]
        bucket.pop(bisect_left(bucket, node))
        insort(self._buckets[free], node)
        self.free_gpus += free - self._free[node]
        self._free[node] = free
