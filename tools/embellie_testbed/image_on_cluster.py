# SPDX-License-Identifier: Apache-2.0
"""The image on a real API server: operator, watchdog, helm's test and the hook, with their pods' tokens.

The API server listens on loopback only, so the containers share this machine's network, and their ports are free ones.
"""

import base64
import re
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import yaml

from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.image_runs import Container, Image, ImageError, clean, containers, volume
from embellie_testbed.paths import CHART
from embellie_testbed.processes import free_port, until
from embellie_testbed.product import NAMESPACE, RELEASE

TOKEN_AT = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
ACCOUNTS = {"operator": "operator", "watchdog": "watchdog", "check": "watchdog", "uninstall": "watchdog"}
READY_WITHIN_S = 90.0


def try_on_cluster(image: Image) -> None:
    """Install the chart, run its pods in the image, and uninstall; raise ImageError at the first that fails."""
    with ControlPlane.start() as plane, tempfile.TemporaryDirectory(prefix="embellie-image-") as scratch:
        plane.helm("install", RELEASE, CHART, "--namespace", NAMESPACE, "--create-namespace")
        found = {one.name: one for one in containers() if one.name in ACCOUNTS}
        with running(image, plane, found["watchdog"], Path(scratch)) as watchdog:
            with running(image, plane, found["operator"], Path(scratch)) as operator:
                print(f"{'check':12} {finished(image, plane, found['check'], Path(scratch))}", flush=True)
            print(f"{'operator':12} {operator.last_words()}", flush=True)
            print(f"{'uninstall':12} {finished(image, plane, found['uninstall'], Path(scratch))}", flush=True)
        print(f"{'watchdog':12} {watchdog.last_words()}", flush=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A container that has become ready."""

    name: str
    log: Path

    def last_words(self) -> str:
        """Return the last line of its log."""
        said = self.log.read_text(encoding="utf-8")
        clean(self.name, said)
        return said.strip().rpartition("\n")[2]


@contextmanager
def running(image: Image, plane: ControlPlane, container: Container, scratch: Path) -> Iterator[Running]:
    """Run a container until the block ends; the block begins once it says that it is ready."""
    port, folder = free_port(), scratch / container.name
    folder.mkdir()
    words = [re.sub(r"-port=808\d$", f"-port={port}", word) for word in container.command]
    here = in_pod(plane, replace(container, command=tuple(words)), folder)
    log = folder / "log"
    with log.open("w") as out:
        process = _start(image, here, folder, out)
        try:

            def ready() -> bool:
                if process.poll() is not None:
                    raise ImageError(f"{container.name} ended while starting:\n{log.read_text(encoding='utf-8')}")
                return _answers(port)

            until(ready, seconds=READY_WITHIN_S, what=f"{container.name} in the image is ready")
            yield Running(name=container.name, log=log)
        finally:
            image.remove(here)
            code = process.wait()
    if code != 0:
        raise ImageError(f"{container.name}: exit code {code} when it was stopped:\n{log.read_text(encoding='utf-8')}")


def _start(image: Image, container: Container, folder: Path, out: TextIO) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(image.argv(container, folder), stdout=out, stderr=subprocess.STDOUT)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return int(answer.status) == 200
    except (urllib.error.URLError, OSError):
        return False


def finished(image: Image, plane: ControlPlane, container: Container, scratch: Path) -> str:
    """Run a container to its end; return what it said last."""
    folder = scratch / container.name
    folder.mkdir()
    code, said = image.run(in_pod(plane, container, folder), folder, seconds=300.0)
    clean(container.name, said)
    if code != 0:
        raise ImageError(f"{container.name}: exit code {code} on a real API server:\n{said}")
    return said.strip().rpartition("\n")[2]


def in_pod(plane: ControlPlane, container: Container, folder: Path) -> Container:
    """Return the container with what the kubelet gives a pod to find and to prove itself to the API server."""
    account = f"{RELEASE}-{ACCOUNTS[container.name]}"
    config = yaml.safe_load(plane.kubeconfig_for(NAMESPACE, account).read_text(encoding="utf-8"))
    token = volume(folder, TOKEN_AT)
    (token / "token").write_text(config["users"][0]["user"]["token"], encoding="ascii")
    authority = config["clusters"][0]["cluster"]["certificate-authority-data"]
    (token / "ca.crt").write_bytes(base64.b64decode(authority))
    (token / "namespace").write_text(NAMESPACE, encoding="ascii")
    host, _, port = plane.server.removeprefix("https://").rpartition(":")
    address = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    return replace(
        container, environment={**container.environment, **address}, readable={TOKEN_AT: token}, network="host"
    )
