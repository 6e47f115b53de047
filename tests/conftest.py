# SPDX-License-Identifier: Apache-2.0
"""Property tests try the same examples on every machine; `make fuzz` looks for new ones."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from recorder import Desk

# No deadline: a busy machine is no finding.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("reproducible", PATIENT, derandomize=True)
settings.register_profile("fuzz", PATIENT, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "reproducible"))


@pytest.fixture(autouse=True)
def desks_are_closed() -> Iterator[None]:
    """Close the ledgers of a test's desks: from Python 3.13 on an open one is a warning, wherever it is found."""
    yield
    while Desk.opened:
        Desk.opened.pop().stop()
