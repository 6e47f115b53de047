# SPDX-License-Identifier: Apache-2.0
"""The chart's forecaster: its rendered command, environment and mounts, run as a real process without a network."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from embellie.domain.forecast import Forecast
from embellie.telemetry.forecasts import ForecastDirectory
from embellie.telemetry.intensity import IntensityFolder
from embellie_testbed.build import binaries
from embellie_testbed.paths import CHART, REPOSITORY
from embellie_testbed.processes import until
from embellie_testbed.providers import truth_at

pytestmark = pytest.mark.control_plane

CREDENTIALS = (
    "EIA_API_KEY",
    "ENTSOE_API_KEY",
    "ELECTRICITYMAPS_TOKEN",
    "OPENMETEO_API_KEY",
    "EMBELLIE_PROMETHEUS_TOKEN",
)
PATIENCE_S = 300.0
Json = dict[str, Any]


def pod(settings: str = "") -> Json:
    """What helm makes of the chart; it needs no cluster for that."""
    where = ("--namespace", "embellie-system", "--kube-version", "1.36.0")
    line = [binaries() / "helm", "template", "embellie", CHART, *where, *(("--set", settings) if settings else ())]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ValueError(done.stderr)
    text = done.stdout
    objects = [document for document in yaml.safe_load_all(text) if document]
    (deployment,) = [o for o in objects if o["kind"] == "Deployment" and o["metadata"]["name"] == "embellie-operator"]
    found: Json = deployment["spec"]["template"]["spec"]
    return found


def container(spec: Json, name: str = "forecaster") -> Json:
    (found,) = [c for c in spec["containers"] if c["name"] == name]
    return dict(found)


def environment(spec: Json) -> dict[str, str]:
    return {e["name"]: e["value"] for e in container(spec)["env"]}


def mounts(spec: Json) -> dict[str, str]:
    return {m["name"]: m["mountPath"] for m in container(spec)["volumeMounts"]}


def test_credentials_are_files_of_a_secret_that_only_the_forecaster_sees() -> None:
    spec = pod("forecaster.credentialsSecret=feeds")
    (volume,) = [v for v in spec["volumes"] if v["name"] == "credentials"]
    # A Secret that is missing must not keep the operator from starting.
    assert volume["secret"] == {"secretName": "feeds", "defaultMode": 0o440, "optional": True}
    assert environment(spec).items() >= {f"{n}_FILE": f"{mounts(spec)['credentials']}/{n}" for n in CREDENTIALS}.items()
    assert "credentials" not in {m["name"] for m in container(spec, "operator")["volumeMounts"]}
    assert not {"credentials", "bundles"} & {v["name"] for v in pod()["volumes"]}


def test_every_credential_that_a_source_asks_for_is_mounted() -> None:
    sources = REPOSITORY / "forecasting" / "embellie_forecast" / "sources"
    asked = {name for path in sources.glob("*.py") for name in re.findall(r'find_secret\("(\w+)"\)', path.read_text())}
    assert asked == set(CREDENTIALS)


@pytest.mark.parametrize(
    ("settings", "volume"),
    [
        ("existingClaim=grid", {"persistentVolumeClaim": {"claimName": "grid", "readOnly": True}}),
        ("configMap=grid", {"configMap": {"name": "grid", "optional": True}}),
        ("hostPath=/srv/grid", {"hostPath": {"path": "/srv/grid"}}),
    ],
)
def test_bundles_come_from_a_claim_a_configmap_or_a_folder(settings: str, volume: Json) -> None:
    spec = pod(f"forecaster.bundles.{settings}")
    assert {"name": "bundles", **volume} in spec["volumes"]
    assert environment(spec)["EMBELLIE_BUNDLES"] == mounts(spec)["bundles"]


def test_prices_of_a_configmap_lie_where_the_operator_looks_for_them() -> None:
    spec = pod("prices.configMap=tariffs")
    # Prices that are missing must not keep the operator from starting.
    assert {"name": "prices", "configMap": {"name": "tariffs", "optional": True}} in spec["volumes"]
    assert "--forecast-dir=/var/lib/embellie" in container(spec, "operator")["args"]
    mount = {"name": "prices", "mountPath": "/var/lib/embellie/prices", "readOnly": True}
    assert mount in container(spec, "operator")["volumeMounts"]
    assert "prices" not in {v["name"] for v in pod()["volumes"]}


@pytest.mark.parametrize(
    "setting",
    [
        "forecaster.unknown=1",
        "forecaster.credentialsSecret=Not A Name",
        "forecaster.bundles.configMap=a,forecaster.bundles.existingClaim=b",
        "forecaster.bundles.unknown=a",
        "forecaster.bundles.hostPath=srv",
        "forecaster.environment.EIA_API_KEY=secret",
        "forecaster.environment.HTTPS_PROXY=http://user:password@proxy",
    ],
)
def test_a_credential_in_the_values_or_two_places_of_bundles_are_refused(setting: str) -> None:
    with pytest.raises(ValueError, match=r"values don't meet the specifications of the schema|name only one of"):
        pod(setting)


def test_meters_are_read_where_the_operator_reads_unless_told_otherwise() -> None:
    url = "EMBELLIE_PROMETHEUS_URL"
    assert environment(pod("prometheusUrl=http://p:9090"))[url] == "http://p:9090"
    other = f"prometheusUrl=http://p:9090,forecaster.environment.{url}=http://q:9090"
    assert environment(pod(other))[url] == "http://q:9090"


def write_bundle(folder: Path, now: datetime) -> None:
    """Fifty days of a small grid up to the last hour, under their checksum."""
    folder.mkdir()
    hour = now.replace(minute=0, second=0, microsecond=0)
    moments = [hour - timedelta(hours=k) for k in range(50 * 24, 0, -1)]
    names = [name for name in truth_at(hour) if name.startswith("gen_")]
    lines = [",".join(["timestamp_utc", *names])]
    lines += [f"{m:%Y-%m-%dT%H:%M:%SZ}," + ",".join(str(truth_at(m)[name]) for name in names) for m in moments]
    (folder / "FR.csv").write_text("\n".join(lines) + "\n")
    digest = hashlib.sha256((folder / "FR.csv").read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  FR.csv\n")


@contextmanager
def running(line: list[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out, subprocess.Popen(line, env=env, stdout=out, stderr=out) as process:
        try:
            yield process
        finally:
            process.terminate()


def test_the_rendered_command_serves_a_live_forecast_from_a_bundle_and_nothing_else(tmp_path: Path) -> None:
    spec = pod("forecaster.bundles.configMap=grid,forecaster.credentialsSecret=feeds")
    # Every mount of the container becomes a folder here, and nothing else of this machine is named to it.
    where = {path: tmp_path / name for name, path in mounts(spec).items()}
    where = dict(sorted(where.items(), key=lambda pair: -len(pair[0])))

    def local(text: str) -> str:
        return next((text.replace(path, str(here), 1) for path, here in where.items() if path in text), text)

    for here in where.values():
        here.mkdir(exist_ok=True)
    (tmp_path / "bundles").rmdir()
    write_bundle(tmp_path / "bundles", datetime.now(UTC))
    forecasts = tmp_path / "forecasts"
    zone = {"name": "paris", "gridRegion": "FR", "sources": {"primary": {"kind": "Bundle", "area": "FR"}}}
    (forecasts / "zones.json").write_text(json.dumps({"zones": [zone]}))
    declared = environment(spec)
    assert all(local(value) != value for value in declared.values()), "every path lies on a mount"
    env = {"PATH": os.environ["PATH"], **{name: local(value) for name, value in declared.items()}}
    env |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    programs = Path(sys.executable).parent
    line = [str(programs / container(spec)["command"][0]), *map(local, container(spec)["args"])]
    operator = ForecastDirectory(forecasts)
    with running(line, env, tmp_path / "log") as process:

        def live() -> Forecast | None:
            assert process.poll() is None, (tmp_path / "log").read_text()
            found = operator.latest("paris", datetime.now(UTC))
            return found if found is not None and found.rung == "Live" else None

        found = until(live, "a live forecast is written", PATIENCE_S)
    assert found.n_slots == 96
    assert "FR-bundle" in found.model_id
    measured = IntensityFolder(forecasts / "intensity").of("paris")
    assert measured is not None
    assert max(len(hours) for hours in measured.values.values()) >= 48
    card = subprocess.run(
        [programs / "embellie", "model", "card", "FR-bundle"], env=env, capture_output=True, text=True, check=False
    )
    assert card.returncode == 0, card.stderr
    assert "FR-bundle" in card.stdout
