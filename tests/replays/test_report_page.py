# SPDX-License-Identifier: Apache-2.0
"""The HTML report: one file that is safe whatever names are in it; in a real browser where one is installed."""

import csv
import io
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from embellie.accounting.interval import account_interval
from embellie.accounting.known import Gang, Machine, Price, Stay, ZoneInterval
from embellie.cli.main import cli
from embellie.cli.reporting.page import as_html
from embellie.domain.reasons import SignalKind
from embellie.ledger import Draft, Kind, Ledger

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
        "method": {"accounts": "embellie-account/4", "savings": "embellie-savings/5"},
        "cluster": row,
        "rows": [row],
        "days": days,
        "revisions": {},
        "ledger": {"head": f"9:{64 * 'f'}", "lostRecords": 0, "overrides": 0},
        "notes": ["A note with <tags> & signs."],
    }


def test_the_page_is_one_file_that_asks_nobody_for_anything() -> None:
    text = as_html(document())
    for part in ("<script", "src=", "@import", "url(http", "<link"):
        assert part not in text
    assert "&lt;AverageDirect&gt;" in text
    assert "<tags>" not in text
    assert text == as_html(document())


def ledger_of_an_hour(path: Path, namespaces: list[str]) -> Path:
    start = datetime(2026, 3, 28, tzinfo=UTC)
    at = (start.timestamp(), start.timestamp() + 3600.0)
    gang = Gang(
        uid="u",
        namespace="ml",
        name="a",
        stays=(Stay(node="n", gpus=8, start_s=at[0], end_s=at[1]),),
        watts_per_gpu=600.0,
    )
    body = account_interval(
        ZoneInterval(
            zone="west", start=start, end=start + timedelta(hours=1), gpus=(), gangs=(gang,),
            machines=(Machine(name="n", gpus=8, idle_w=3200.0, gpu_idle_w=140.0, host_share=0.03),),
            prices=(Price(kind=SignalKind.AVERAGE_LIFECYCLE, g_per_kwh=400.0, quality="measured", source="x"),),
        )
    )  # fmt: skip
    row = body["adds"]["namespaces"]["ml"]
    body["adds"]["namespaces"] = dict.fromkeys(namespaces, row)
    with Ledger(path, leader="a", version="1") as ledger:
        ledger.append([Draft(kind=Kind.ACCOUNT, at=start + timedelta(hours=1), body=body)])
    return path


def report(ledger: Path, by: str, form: str) -> str:
    period = ["--from", "2026-03-28T00:00:00Z", "--to", "2026-03-28T01:00:00Z", "--draws", "19"]
    result = CliRunner().invoke(cli, ["report", "--ledger", str(ledger), *period, "--by", by, "--format", form])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("by", ["cluster", "zone", "namespace", "team"])
def test_every_grouping_is_a_page_with_pictures_and_without_addresses(tmp_path: Path, by: str) -> None:
    page = report(ledger_of_an_hour(tmp_path / "ledger.sqlite", ["ml"]), by, "html")
    assert "<svg" in page
    assert "<script" not in page
    for known in ("http://www.w3.org", "http://purl.org", "http://creativecommons.org"):
        page = page.replace(known, "")
    assert "http://" not in page


def test_ten_thousand_namespaces_with_quotes_and_newlines_are_reported(tmp_path: Path) -> None:
    ledger = ledger_of_an_hour(tmp_path / "ledger.sqlite", [f'=n"{k}\n<b>' for k in range(10_000)])
    rows = list(csv.reader(io.StringIO(report(ledger, "namespace", "csv"))))
    assert len(rows) == 10_001
    assert rows[1][0].startswith("'=n\"")
    assert "<b>" not in report(ledger, "namespace", "html").replace("<b>1", "").split("<table>")[1]


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
    assert "Refused: direct emissions of cluster" in done.stdout
