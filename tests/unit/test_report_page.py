# SPDX-License-Identifier: Apache-2.0
"""The HTML report in a real browser; left out where none is installed."""

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from embellie.cli.reporting.page import as_html

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def document() -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": "cluster",
        "energyKwh": {"jobs": 50.0, "idle": 20.0, "overhead": 14.0, "unexplained": 0.1, "total": 84.1},
        "emissionsKg": {"AverageLifecycle": 33.6, "AverageDirect": None},
        "embodiedKg": 1.5,
        "cost": None,
        "gpuHours": {"reserved": 100.0, "all": 192.0},
        "coveragePercent": {"accounts": 100.0, "meter": 99.0, "nodes": 98.0, "gpus": 97.0},
        "estimatedPercent": {"energy": 1.0, "AverageLifecycle": 2.0},
        "unexplainedPercent": 0.12,
        "saving": None,
        "delay": None,
        "refused": {"AverageDirect": "the carbon intensity <AverageDirect> is known for 0 % of the hours"},
    }
    first = datetime(2026, 3, 1, tzinfo=UTC)
    days = [
        {
            "day": (first + timedelta(days=k)).date().isoformat(),
            "energyKwh": {"jobs": 10.0 + k, "idle": 5.0, "overhead": 3.0, "unexplained": 0.0, "facility": 18.0 + k},
            "emissionsKg": {"AverageLifecycle": 7.0},
            "zoneHours": 24.0,
            "saving": [{"zone": "west", "savedKg": {"value": 1.0 - k % 3, "low": -1.0 - k % 3, "high": 2.0}}],
        }
        for k in range(40)
    ]
    return {
        "period": {
            "from": "2026-03-01T00:00:00+00:00",
            "to": "2026-04-10T00:00:00+00:00",
            "timeZone": "UTC",
            "hours": 960.0,
        },
        "by": "cluster",
        "method": {"accounts": "embellie-account/1", "savings": "embellie-savings/2"},
        "cluster": row,
        "rows": [row],
        "days": days,
        "revisions": {},
        "notes": ["A note with <tags> & signs."],
    }


def test_the_page_is_one_file_that_asks_nobody_for_anything() -> None:
    text = as_html(document())
    for part in ("<script", "src=", "@import", "url(http", "<link"):
        assert part not in text
    assert "&lt;AverageDirect&gt;" in text
    assert "<tags>" not in text
    assert text == as_html(document())


@pytest.mark.skipif(BROWSER is None, reason="no chromium is installed")
def test_a_real_browser_draws_the_page_with_both_charts(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(as_html(document()), encoding="utf-8")
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"]
    done = subprocess.run(
        [*command, f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # The browser's own parser has read it: two whole drawings, with their axes.
    assert done.stdout.count("<svg") == done.stdout.count("</svg>") == 2
    assert "kWh a day" in done.stdout
    assert "kg CO2e saved" in done.stdout
    assert "Refused: AverageDirect of cluster" in done.stdout
