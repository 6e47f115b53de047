# SPDX-License-Identifier: Apache-2.0
"""The containers of the chart by its own rendering, and a container engine that runs them in the image."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from embellie_testbed.build import binaries
from embellie_testbed.paths import CHART, REPOSITORY
from embellie_testbed.processes import until
from embellie_testbed.product import NAMESPACE, RELEASE

ENGINES = ("docker", "podman")
FORECAST_WITHIN_S = 180.0
FORBIDDEN = ("Traceback", "Read-only file system", "Permission denied", "Warning")
ZONES = {"zones": [{"name": "west", "gridRegion": "US-CISO"}]}


class ImageError(Exception):
    """The image cannot be built or does not do what it should."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container of the chart."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    writable: tuple[str, ...]
    """Where volumes are mounted that it may write to."""
    readable: Mapping[str, Path] = field(default_factory=dict)
    """What else is mounted, by where."""
    network: str = "none"


def find_engine(wanted: str | None) -> str:
    """Return the command of a container engine that answers."""
    for name in (wanted,) if wanted else ENGINES:
        if shutil.which(name) and subprocess.run([name, "info"], capture_output=True, check=False).returncode == 0:
            return name
    raise ImageError(
        f"the image needs {wanted or ' or '.join(ENGINES)}, installed and running; name another: ENGINE=..."
    )


def containers() -> list[Container]:
    """Return what the chart's pods run, by its own rendering."""
    helm = binaries() / "helm"
    text = subprocess.run(
        [helm, "template", RELEASE, CHART, "--namespace", NAMESPACE],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [
        _container(container, pod)
        for document in yaml.safe_load_all(text)
        if document
        for pod in _pods(document)
        for container in pod["containers"]
    ]


def _pods(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if document["kind"] == "Pod":
        yield document["spec"]
    elif document["kind"] in {"Deployment", "Job"}:
        yield document["spec"]["template"]["spec"]


def _container(spec: Mapping[str, Any], pod: Mapping[str, Any]) -> Container:
    said = {"POD_NAME": "embellie-0", "POD_NAMESPACE": NAMESPACE}
    environment = {one["name"]: one.get("value") or said[one["name"]] for one in spec.get("env", ())}
    command = [*spec["command"], *spec["args"]]
    for name, value in environment.items():
        command = [word.replace(f"$({name})", value) for word in command]
    volatile = {volume["name"] for volume in pod["volumes"] if "emptyDir" in volume}
    mounts = [mount["mountPath"] for mount in spec["volumeMounts"] if mount["name"] in volatile]
    return Container(name=spec["name"], command=tuple(command), environment=environment, writable=tuple(mounts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image, and the engine that runs it."""

    engine: str
    tag: str

    def build(self, flags: Sequence[str]) -> None:
        """Build it from the Dockerfile."""
        if subprocess.run([self.engine, "build", "--tag", self.tag, *flags, REPOSITORY], check=False).returncode:
            raise ImageError("the image could not be built; the reason is above")

    def size_mb(self) -> float:
        """Return its size, unpacked [MB]."""
        told = self._engine("image", "inspect", "--format", "{{.Size}}", self.tag)
        return int(told.stdout) / 1e6

    def argv(self, container: Container, folder: Path) -> list[str | Path]:
        """Return the command that runs a container; its volumes are folders in `folder`."""
        flags: list[str | Path] = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges",
                                   "--user=65532:65532", f"--network={container.network}",
                                   f"--name={_name(container)}"]  # fmt: skip
        if self.engine == "podman":
            # It would mount more than a pod has, and give the user a name, which a kubelet does not.
            flags += ["--read-only-tmpfs=false", "--passwd=false"]
        flags += [f"--env={name}={value}" for name, value in container.environment.items()]
        for path in container.writable:
            flags.append(f"--volume={volume(folder, path)}:{path}")
        flags += [f"--volume={source}:{path}:ro" for path, source in container.readable.items()]
        program, *arguments = container.command
        return [self.engine, "run", "--rm", *flags, f"--entrypoint={program}", self.tag, *arguments]

    def run(self, container: Container, folder: Path, *, seconds: float = 120.0) -> tuple[int, str]:
        """Run a container to its end; return its exit code and what it said."""
        try:
            done = subprocess.run(
                self.argv(container, folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                timeout=seconds, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            self.remove(container)
            raise ImageError(f"{container.name}: still runs after {seconds:g} s") from error
        return done.returncode, done.stdout

    def serve(self, container: Container, folder: Path) -> tuple[str, str]:
        """Run the forecaster until it has written a forecast; return the forecast and what it said."""
        shared = volume(folder, "/var/lib/embellie")
        (shared / "zones.json").write_text(json.dumps(ZONES), encoding="utf-8")
        log = folder / "log"
        with log.open("w") as out:
            process = subprocess.Popen(self.argv(container, folder), stdout=out, stderr=subprocess.STDOUT)

            def written_or_ended() -> Path | bool:
                written = sorted((shared / "forecasts" / "west").glob("[0-9]*.json"))
                return written[0] if written else process.poll() is not None

            try:
                found = until(written_or_ended, f"{container.name}: a forecast", FORECAST_WITHIN_S, every_seconds=0.5)
            except TimeoutError as error:
                raise ImageError(f"{error}:\n{log.read_text(encoding='utf-8')}") from error
            finally:
                self.remove(container)
                process.wait()
        said = log.read_text(encoding="utf-8")
        if not isinstance(found, Path):
            raise ImageError(f"{container.name} ended without a forecast:\n{said}")
        return found.read_text(encoding="utf-8"), said

    def remove(self, container: Container) -> None:
        """Stop a container, as the kubelet does: it is asked first."""
        self._engine("stop", _name(container))

    def _engine(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.engine, *arguments], capture_output=True, text=True, check=False)


def _name(container: Container) -> str:
    return f"embellie-image-{container.name}"


def volume(folder: Path, path: str) -> Path:
    """Return the folder of the volume that is mounted at `path`, made as the kubelet makes an emptyDir."""
    made = folder / path.strip("/").replace("/", "-")
    made.mkdir(exist_ok=True)
    made.chmod(0o777)
    return made


def clean(what: str, said: str) -> None:
    """Refuse what a pod of this image should never say."""
    if any(word in said for word in FORBIDDEN):
        raise ImageError(f"{what} said:\n{said}")
