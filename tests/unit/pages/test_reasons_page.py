# SPDX-License-Identifier: Apache-2.0
"""The page on states and reasons and the code name the same ones."""

import re

import pytest

from embellie.domain.reasons import Reason, State
from embellie_testbed.paths import REPOSITORY

PAGE = REPOSITORY / "docs" / "reference" / "reasons.md"


def sections() -> dict[str, str]:
    parts = re.split(r"^### (\w+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    names = parts[1::2]
    assert len(names) == len(set(names))
    return dict(zip(names, parts[2::2], strict=True))


@pytest.mark.parametrize("name", [*State, *Reason])
def test_each_state_and_reason_is_explained_with_what_to_do(name: str) -> None:
    text = sections()[str(name)]
    assert "**What to do:**" in text
    assert len(text.split("**What to do:**")[0].split()) >= 8


def test_the_page_names_nothing_that_does_not_exist() -> None:
    assert set(sections()) == {str(name) for name in (*State, *Reason)}
