# SPDX-License-Identifier: Apache-2.0
"""Keeps a label's values few, however many there are in the cluster."""

from collections.abc import Mapping

OTHER = "_other_"
"""No object of Kubernetes can have this name."""


class Bounded:
    """Gives the first `limit` names a label of their own, for good; all later ones share `_other_`.

    For counters, whose series must not come and go.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def label(self, name: str) -> str:
        """Return the label for a name."""
        if name in self._known:
            return name
        if len(self._known) >= self._limit:
            return OTHER
        self._known.add(name)
        return name


def largest(values: Mapping[str, float], limit: int) -> dict[str, float]:
    """Keep the `limit` largest values and add up the rest as `_other_`.

    >>> largest({"a": 3.0, "b": 1.0, "c": 2.0}, 1)
    {'a': 3.0, '_other_': 3.0}
    """
    ordered = sorted(values.items(), key=lambda pair: (-pair[1], pair[0]))
    kept = dict(ordered[:limit])
    if len(ordered) > limit:
        kept[OTHER] = sum(value for _, value in ordered[limit:])
    return kept
