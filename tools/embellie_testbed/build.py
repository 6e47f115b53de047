# SPDX-License-Identifier: Apache-2.0
"""Builds the control plane's binaries from pinned Go modules, once per machine.

Versions live in `tools/go/*/go.mod` and nowhere else: what is stamped into the binaries is read from there. The
result is kept outside the work tree, under a hash of everything that can change it, so that a second checkout finds it
too. Two processes may ask at once: the second waits for the first.

    python -m embellie_testbed.build            build what is missing and print the folder
    python -m embellie_testbed.build --path     only print the folder
"""

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from embellie_testbed.paths import GO_MODULES, cache_folder

MINIMUM_GO = (1, 26)
RECIPE_REVISION = 1
PROGRESS_SECONDS = 10.0


class BuildError(RuntimeError):
    """A binary could not be built; the message is one sentence that says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One `go install`: packages of one Go module that share a set of linker flags."""

    family: str
    module: str
    packages: tuple[str, ...]
    stamps: tuple[str, ...] = ()
    renames: tuple[tuple[str, str], ...] = ()

    @property
    def binaries(self) -> tuple[str, ...]:
        """Names of the files that this step leaves behind."""
        renames = dict(self.renames)
        names = (re.sub(r"/v\d+$", "", package).rsplit("/", 1)[-1] for package in self.packages)
        return tuple(renames.get(name, name) for name in names)


# Stamps are templates over {version}, {major} and {minor} of the step's own module and {kube_...} of Kubernetes.
STEPS = (
    Step(
        family="controlplane",
        module="k8s.io/kubernetes",
        packages=tuple(
            f"k8s.io/kubernetes/cmd/{name}"
            for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
        ),
        stamps=(
            "k8s.io/component-base/version.gitVersion={version}",
            "k8s.io/component-base/version.gitMajor={major}",
            "k8s.io/component-base/version.gitMinor={minor}",
            "k8s.io/component-base/version.gitTreeState=clean",
        ),
    ),
    Step(
        family="controlplane",
        module="go.etcd.io/etcd/server/v3",
        packages=("go.etcd.io/etcd/server/v3",),
        renames=(("server", "etcd"),),
    ),
    Step(
        family="controlplane",
        module="sigs.k8s.io/kwok",
        packages=("sigs.k8s.io/kwok/cmd/kwok",),
        stamps=("sigs.k8s.io/kwok/pkg/consts.Version={version}",),
    ),
    Step(
        family="controlplane",
        module="helm.sh/helm/v3",
        packages=("helm.sh/helm/v3/cmd/helm",),
        # Without the Kubernetes version `helm template` and `helm lint` judge charts against a cluster of 2020.
        stamps=(
            "helm.sh/helm/v3/internal/version.version={version}",
            "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor={kube_major}",
            "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor={kube_minor}",
            "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor={kube_major}",
            "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor={kube_minor}",
        ),
    ),
    Step(
        family="prometheus",
        module="github.com/prometheus/prometheus",
        packages=("github.com/prometheus/prometheus/cmd/prometheus", "github.com/prometheus/prometheus/cmd/promtool"),
        stamps=("github.com/prometheus/common/version.Version={prometheus_version}",),
    ),
)


def required_version(module: str, go_mod: str) -> str:
    """Return the version of `module` that the text of a go.mod requires."""
    found = re.search(rf"^\s*(?:require\s+)?{re.escape(module)}\s+(v\S+)", go_mod, re.MULTILINE)
    if found is None:
        raise BuildError(f"go.mod requires no {module}")
    return found.group(1)


def linker_flags(step: Step) -> str:
    """Return the `-ldflags` of a step, with the versions of go.mod filled into its stamps."""
    version = required_version(step.module, _go_mod(step.family))
    major, minor, _ = version.removeprefix("v").split(".", 2)
    kube_major, kube_minor, _ = kubernetes_version().removeprefix("v").split(".", 2)
    # Prometheus numbers its Go module v0.315.0 where the program is 3.15.0.
    prometheus = f"{int(minor) // 100}.{int(minor) % 100}.{version.rsplit('.', 1)[-1]}"
    values = {
        "version": version,
        "major": major,
        "minor": minor,
        "kube_major": kube_major,
        "kube_minor": kube_minor,
        "prometheus_version": prometheus,
    }
    return " ".join(["-s", "-w", *(f"-X {stamp.format(**values)}" for stamp in step.stamps)])


def kubernetes_version() -> str:
    """Return the version of Kubernetes that go.mod pins, such as v1.36.3."""
    return required_version("k8s.io/kubernetes", _go_mod("controlplane"))


def _go_mod(family: str) -> str:
    return (GO_MODULES / family / "go.mod").read_text(encoding="utf-8")


def go_version() -> str:
    """Return the version of the Go tool chain, or raise one clear sentence when it is missing or too old."""
    wanted = ".".join(map(str, MINIMUM_GO))
    try:
        # GOTOOLCHAIN=local: the question is what is installed, and a silent download is no answer to it.
        output = subprocess.run(
            ["go", "env", "GOVERSION"],
            env={**os.environ, "GOTOOLCHAIN": "local"},
            cwd=tempfile.gettempdir(),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        raise BuildError(
            f"Go {wanted} or newer is needed to build the control plane, and there is no `go` on the PATH: "
            "install it from https://go.dev/dl/."
        ) from None
    found = re.match(r"go(\d+)\.(\d+)", output)
    if found is None or (int(found.group(1)), int(found.group(2))) < MINIMUM_GO:
        raise BuildError(
            f"Go {wanted} or newer is needed to build the control plane, and `go` on the PATH is {output}: "
            "install a newer one from https://go.dev/dl/."
        )
    return output


def target_folder(go: str) -> Path:
    """Return the folder of the binaries that these sources and this Go make."""
    digest = hashlib.sha256(f"{RECIPE_REVISION} {go} {STEPS!r}".encode())
    for family in sorted({step.family for step in STEPS}):
        for name in ("go.mod", "go.sum"):
            digest.update((GO_MODULES / family / name).read_bytes())
    return cache_folder() / "bin" / digest.hexdigest()[:16]


def binaries(log: TextIO = sys.stderr) -> Path:
    """Return the folder with all binaries, building them first if they are not there yet."""
    go = go_version()
    target = target_folder(go)
    if target.is_dir():
        return target
    with _only_one_builder(target.parent / "build.lock", log):
        if not target.is_dir():
            _build_all(target, go, log)
    return target


@contextmanager
def _only_one_builder(lock: Path, log: TextIO) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another process is building the control plane, waiting for it ({lock})", file=log, flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build_all(target: Path, go: str, log: TextIO) -> None:
    print(
        f"building the control plane with {go} into {target}\n"
        "(about 10 minutes on 2 cores when Go's cache is cold, once; later runs find it there)",
        file=log,
        flush=True,
    )
    started = time.monotonic()
    for abandoned in target.parent.glob(".building-*"):
        # We hold the lock: whoever made this was killed.
        shutil.rmtree(abandoned, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=target.parent) as scratch:
        folder = Path(scratch)
        for number, step in enumerate(STEPS, start=1):
            _build_step(step, folder, f"[{number}/{len(STEPS)}]", log)
        finished = folder / "bin"
        # One rename: whoever looks sees all binaries or none.
        finished.rename(target)
    print(f"control plane built in {time.monotonic() - started:.0f} s", file=log, flush=True)


def _build_step(step: Step, scratch: Path, position: str, log: TextIO) -> None:
    version = required_version(step.module, _go_mod(step.family))
    title = f"{position} {', '.join(step.binaries)} ({version})"
    print(title, file=log, flush=True)
    folder = scratch / "bin"
    folder.mkdir(exist_ok=True)
    # CGO off makes the binaries static; buildvcs off keeps them equal in every checkout.
    environment = {**os.environ, "CGO_ENABLED": "0", "GOBIN": str(folder), "GOFLAGS": "-buildvcs=false"}
    command = ["go", "install", "-v", "-trimpath", "-mod=readonly", "-ldflags", linker_flags(step), *step.packages]
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=GO_MODULES / step.family,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        lines = _follow(process, log, started)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
    if process.returncode != 0:
        tail = "\n".join(lines[-20:])
        raise BuildError(f"`go install` of {', '.join(step.binaries)} failed:\n{tail}")
    for old, new in step.renames:
        (folder / old).rename(folder / new)
    sizes = sum((folder / name).stat().st_size for name in step.binaries) / 2**20
    print(f"{position} done after {time.monotonic() - started:.0f} s, {sizes:.0f} MiB", file=log, flush=True)


def _follow(process: subprocess.Popen[str], log: TextIO, started: float) -> list[str]:
    """Read what the compiler says until it ends, and tell every ten seconds how far it is."""
    lines: list[str] = []

    def read() -> None:
        assert process.stderr is not None  # noqa: S101 - it was opened as a pipe above
        # Appended one by one: the loop below looks at the list while this thread waits for the next line.
        for line in process.stderr:
            lines.append(line.rstrip())  # noqa: PERF401

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    while True:
        reader.join(timeout=PROGRESS_SECONDS)
        if not reader.is_alive():
            return lines
        elapsed = time.monotonic() - started
        at = lines[-1] if lines else "linking what is cached"
        print(f"      {elapsed:4.0f} s, {len(lines)} packages compiled, at {at}", file=log, flush=True)


def remove_others(keep: Path, log: TextIO = sys.stderr) -> None:
    """Remove the binaries of other versions."""
    for folder in keep.parent.iterdir():
        if folder.is_dir() and folder != keep:
            print(f"removing {folder}", file=log)
            shutil.rmtree(folder)


def main(arguments: list[str] | None = None) -> int:
    """Build what is missing and print where it is."""
    parser = argparse.ArgumentParser(prog="python -m embellie_testbed.build", description=__doc__.splitlines()[0])
    parser.add_argument("--path", action="store_true", help="print the folder and build nothing")
    parser.add_argument("--prune", action="store_true", help="afterwards remove the binaries of other versions")
    options = parser.parse_args(arguments)
    try:
        if options.path:
            print(target_folder(go_version()))
            return 0
        folder = binaries()
    except BuildError as error:
        print(f"embellie-testbed: {error}", file=sys.stderr)
        return 1
    if options.prune:
        remove_others(folder)
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
