# SPDX-License-Identifier: Apache-2.0
"""What the demo is told to write."""

from pathlib import Path

import pytest

from embellie_testbed.demo.run import parse_options


def test_a_ledger_is_kept_where_the_demo_was_started_and_not_where_the_operator_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_options(["--ledger", "demo.sqlite"]).ledger == tmp_path / "demo.sqlite"
    assert parse_options([]).ledger is None
