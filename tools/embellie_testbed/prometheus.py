# SPDX-License-Identifier: Apache-2.0
"""The real Prometheus, scraping what the testbed exports."""

import http.client
import json
import subprocess
import tempfile
import urllib.parse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from embellie_testbed.processes import free_port, until

if TYPE_CHECKING:
    from embellie_testbed.controlplane import ControlPlane


@dataclass(frozen=True, slots=True, kw_only=True)
class Prometheus:
    """A running Prometheus."""

    port: int

    @property
    def url(self) -> str:
        """Its base address."""
        return f"http://127.0.0.1:{self.port}"

    def is_ready(self) -> bool:
        """Tell whether it answers queries."""
        try:
            status, _ = self._get("/-/ready")
        except OSError:
            return False
        return status == 200

    def query(self, promql: str) -> list[tuple[dict[str, str], float]]:
        """Return labels and value of each series of an instant query."""
        data = self.ask("query", query=promql)
        return [(series["metric"], float(series["value"][1])) for series in data["result"]]

    def ask(self, endpoint: str, **parameters: str) -> Any:
        """Return the data of an answer of the API's version 1."""
        status, body = self._get(f"/api/v1/{endpoint}?{urllib.parse.urlencode(parameters)}")
        answer: dict[str, Any] = json.loads(body)
        if status != 200:
            raise ValueError(f"Prometheus refused {parameters}: {answer.get('error')}")
        return answer["data"]

    def wait_for_series(self, promql: str) -> None:
        """Wait until a query has an answer."""
        until(lambda: bool(self.query(promql)), seconds=20.0, what=f"Prometheus answers {promql}")

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def configuration(targets: Sequence[str], scrape_seconds: float, rules: Sequence[Path] = ()) -> dict[str, Any]:
    """Return the configuration: one job, no relabelling."""
    interval = f"{round(scrape_seconds * 1000)}ms"
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": "15s"},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [{"job_name": "testbed", "static_configs": [{"targets": list(targets)}]}],
    }


def start_prometheus(
    plane: "ControlPlane",
    targets: Sequence[str],
    *,
    scrape_seconds: float = 1.0,
    rules: Sequence[Path] = (),
    storage: Path | None = None,
    retention: str = "6h",
) -> Prometheus:
    """Start Prometheus beside a control plane and wait until it is ready; `storage` holds what it remembers already."""
    prometheus = Prometheus(port=free_port())
    settings = plane.directory / "prometheus.yaml"
    settings.write_text(yaml.safe_dump(configuration(targets, scrape_seconds, rules)), encoding="utf-8")
    command: list[str | Path] = [
        plane.binaries / "prometheus",
        f"--config.file={settings}",
        # Its own: what an earlier one scraped would be found for another five minutes.
        f"--storage.tsdb.path={storage or tempfile.mkdtemp(prefix='prometheus-', dir=plane.directory)}",
        f"--storage.tsdb.retention.time={retention}",
        f"--web.listen-address=127.0.0.1:{prometheus.port}",
        "--log.level=warn",
    ]
    plane.processes.start("prometheus", command)
    plane.processes.wait_for("prometheus", prometheus.is_ready, seconds=90.0, what="Prometheus is ready")
    return prometheus


def start_remembering(plane: "ControlPlane", lines: Iterable[str], folder: Path) -> Prometheus:
    """Start a Prometheus that scrapes nothing and remembers what these lines tell: OpenMetrics with times."""
    history, blocks = folder / "history.om", folder / "blocks"
    history.write_text("\n".join(lines) + "\n", encoding="utf-8")
    made = subprocess.run(
        [plane.binaries / "promtool", "tsdb", "create-blocks-from", "openmetrics", history, blocks],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode != 0:
        raise ValueError(f"promtool made no history: {made.stderr}")
    return start_prometheus(plane, [], storage=blocks, retention="30d")
