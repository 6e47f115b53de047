# SPDX-License-Identifier: Apache-2.0
"""What somebody may have meant who wrote a name that is none. Pure."""

import difflib
from collections.abc import Iterable


def near_names(asked: str, names: Iterable[str]) -> list[str]:
    """Return the names that are nearest to the one asked for, in any case; none where none is near.

    >>> near_names("us-ciso", ["US-CISO", "US-PJM"])
    ['US-CISO']
    """
    by_small = {name.lower(): name for name in names}
    return [by_small[small] for small in difflib.get_close_matches(asked.lower(), by_small)]


def did_you_mean(asked: str, names: Iterable[str]) -> str:
    """Return a question in brackets that names the nearest, to stand behind the name; nothing where none is near."""
    near = near_names(asked, names)
    return f" (did you mean {' or '.join(near)}?)" if near else ""
