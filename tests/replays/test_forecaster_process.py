# SPDX-License-Identifier: Apache-2.0
"""The forecaster as a process of its own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from embellie_forecast.exchange import parse_document
from embellie_testbed.paths import REPOSITORY
from embellie_testbed.processes import until

PACKAGES = os.pathsep.join(str(REPOSITORY / name) for name in ("forecasting", "operator"))


def test_serve_writes_forecasts_as_a_process_and_ends_on_sigterm(tmp_path: Path) -> None:
    (tmp_path / "zones.json").write_text(json.dumps({"zones": [{"name": "west", "gridRegion": "US-CISO"}]}))
    command = [sys.executable, "-m", "embellie_forecast.cli", "serve", "--dir", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": PACKAGES, "EMBELLIE_CACHE": str(tmp_path / "cache")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:

            def written() -> list[Path]:
                assert process.poll() is None
                return list(tmp_path.glob("forecasts/west/*.json"))

            (path,) = until(written, "a forecast is written", 60.0)
            process.send_signal(signal.SIGTERM)
            said, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0
    assert parse_document(path.read_text()).zone == "west"
    assert "west: Climatology" in said
