# SPDX-License-Identifier: Apache-2.0
"""Nested tables of numbers that add up, as accounts are kept in."""

from collections.abc import Mapping
from typing import Any


def add_tables(one: Mapping[str, Any], other: Mapping[str, Any], sign: float = 1.0) -> dict[str, Any]:
    """Add (or with a sign of -1 subtract) two nested tables of numbers, key by key.

    >>> add_tables({"a": 1.0, "b": {"c": 2.0}}, {"b": {"c": 3.0, "d": 4.0}})
    {'a': 1.0, 'b': {'c': 5.0, 'd': 4.0}}
    """
    merged = dict(one)
    for key, value in other.items():
        if isinstance(value, Mapping):
            merged[key] = add_tables(merged.get(key, {}), value, sign)
        else:
            merged[key] = merged.get(key, 0.0) + sign * value
    return merged
