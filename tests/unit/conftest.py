# SPDX-License-Identifier: Apache-2.0
"""What unit tests of several files start from."""

from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest
from recorder import T0, Desk, Hand, Meters


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A recorder with a ledger of its own, at a time that the test sets."""
    return Desk(tmp_path, Hand(T0), Meters())


@pytest.fixture(scope="module")
def carried_once() -> Iterator[None]:
    """Parse the carried grid data once for a file's tests: each ladder of its own would do it twice."""
    from embellie_forecast.history_files import load_carried

    once = cache(load_carried)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("ladder", "feeds"):
            patch.setattr(f"embellie_forecast.{module}.load_carried", once)
        yield


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the models of the replayed ladder's zone."""
    from replayed_ladder import EAST, ORIGIN, replay

    folder = tmp_path_factory.mktemp("models")
    replay(folder).train(EAST, ORIGIN + timedelta(hours=2))
    return folder
