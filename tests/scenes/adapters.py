# SPDX-License-Identifier: Apache-2.0
"""The adapters' names, and the hours that tests read of them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

NOW = datetime(2026, 6, 20, 12, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
BEGIN, END = NOW.replace(minute=0) - timedelta(hours=30), NOW.replace(minute=0)
WEB = ("eco2mix", "eia", "neso", "electricitymaps", "entsoe", "prometheus", "openmeteo", "openmeteo-previous")
FILES = ("csv", "parquet", "bundle")
ALL = WEB + FILES
FeedOf = Callable[[str], Any]

every_adapter = pytest.mark.parametrize("name", ALL)
every_web_adapter = pytest.mark.parametrize("name", WEB)
