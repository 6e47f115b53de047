# SPDX-License-Identifier: Apache-2.0
"""The image and the chart name what exists: no container engine is needed to see that."""

import re
import tomllib
from pathlib import Path

import yaml

from embellie_testbed.paths import CHART, REPOSITORY

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def copied_sources() -> set[str]:
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, flags=re.MULTILINE)
    return {source for line in lines for source in line.split()[:-1]}


def test_the_image_copies_only_what_exists_and_what_the_builder_is_given() -> None:
    sources = copied_sources()
    assert {"pyproject.toml", "uv.lock", "operator", "forecasting"} <= sources
    assert [source for source in sources if not (REPOSITORY / source).exists()] == []
    allowed = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert allowed == sources


def test_the_image_has_all_that_the_build_reads() -> None:
    sources = copied_sources()
    project, wheel = PROJECT["project"], PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    wanted = [project["readme"], *project["license-files"], PROJECT["tool"]["hatch"]["version"]["path"]]
    for path in [*wanted, *wheel["packages"]]:
        assert Path(path).parts[0] in sources, path


def test_the_image_and_the_pods_run_as_the_same_user_that_is_not_root() -> None:
    user, group = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, flags=re.MULTILINE)[-1]
    pod = (CHART / "templates" / "_pod.tpl").read_text()
    assert f"runAsUser: {user}" in pod
    assert f"runAsGroup: {group}" in pod
    assert int(user) > 0


def test_the_chart_runs_commands_that_the_distribution_installs() -> None:
    templates = "".join(path.read_text() for path in (CHART / "templates").rglob("*.yaml"))
    commands = set(re.findall(r"command: \[([a-z-]+)\]", templates))
    assert commands == {"embellie", "embellie-forecast", "embellie-watchdog"}
    assert commands <= set(PROJECT["project"]["scripts"])


def test_the_chart_is_of_the_version_of_the_program() -> None:
    version = re.search(r'__version__ = "(.+)"', (REPOSITORY / "operator" / "embellie" / "__init__.py").read_text())
    assert version is not None
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == version[1]
