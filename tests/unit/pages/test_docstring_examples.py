# SPDX-License-Identifier: Apache-2.0
"""The examples in docstrings."""

import doctest
import importlib
from pathlib import Path

import pytest

from embellie_testbed.paths import REPOSITORY

WITH_EXAMPLES = [
    path.relative_to(root)
    for root in (REPOSITORY / "operator", REPOSITORY / "forecasting", REPOSITORY / "tools")
    for path in sorted(root.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


def test_there_are_examples():
    assert len(WITH_EXAMPLES) > 30


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=str)
def test_an_example_gives_what_its_docstring_says(path: Path):
    module = importlib.import_module(".".join(path.with_suffix("").parts))
    found = doctest.testmod(module)
    assert (found.failed, found.attempted > 0) == (0, True)
