# SPDX-License-Identifier: Apache-2.0
"""What unit tests of several files start from."""

from pathlib import Path

import pytest
from recorder import T0, Desk, Hand, Meters


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A recorder with a ledger of its own, at a time that the test sets."""
    return Desk(tmp_path, Hand(T0), Meters())
