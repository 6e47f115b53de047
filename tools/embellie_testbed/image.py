# SPDX-License-Identifier: Apache-2.0
"""`make image`: builds the image of the Dockerfile, and runs in it what the chart runs, as the chart runs it.

First without a cluster and a network: what needs one must say so and stop, and the forecaster must answer from what it
carries. Then on a real API server (`image_on_cluster`). Each container gets what its pod would give it, and nothing
else: user 65532, no capabilities, a root that it cannot write, the pod's volumes.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from embellie_testbed.image_on_cluster import try_on_cluster
from embellie_testbed.image_runs import Container, Image, ImageError, clean, containers, find_engine

USAGE_ERROR = 2
NO_CLUSTER = "no access to a cluster"


def look(image: Image, container: Container, folder: Path) -> str:
    """Run one of the chart's containers; return what there is to say of it, or raise ImageError."""
    if container.name == "forecaster":
        text, said = image.serve(container, folder)
        forecast = json.loads(text)
        clean(container.name, said)
        if forecast["rung"] != "Climatology" or "US-CISO" not in forecast["modelId"]:
            raise ImageError(f"forecaster: {forecast['rung']}, {forecast['modelId']}: not from carried data")
        return f"wrote a forecast on {forecast['rung']}, {forecast['modelId']}"
    code, said = image.run(container, folder)
    clean(container.name, said)
    if code != USAGE_ERROR or NO_CLUSTER not in said:
        raise ImageError(f"{container.name}: should have ended with {USAGE_ERROR}, {NO_CLUSTER!r}; got {code}:\n{said}")
    return said.strip()


def commands() -> list[Container]:
    """Return what a person runs in the image."""
    asked = (
        ("embellie", "--help"),
        ("embellie-forecast", "--help"),
        ("embellie-watchdog", "--help"),
        ("kubectl-embellie", "why", "--help"),
        ("embellie", "forecast", "US-CISO", "--png", "/tmp/forecast.png"),  # noqa: S108 - a volume of the container
        ("embellie", "model", "train", "US-CISO"),
    )
    cache = {"EMBELLIE_CACHE": "/tmp/cache"}  # noqa: S108
    return [
        Container(name=f"command-{k}", command=words, environment=cache, writable=("/tmp",))  # noqa: S108
        for k, words in enumerate(asked)
    ]


def check(image: Image) -> None:
    """Run everything; raise ImageError at the first that does not do what it should."""
    for container in containers():
        with tempfile.TemporaryDirectory(prefix="embellie-image-") as folder:
            print(f"{container.name:12} {look(image, container, Path(folder))}", flush=True)
    for container in commands():
        with tempfile.TemporaryDirectory(prefix="embellie-image-") as folder:
            code, said = image.run(container, Path(folder), seconds=600.0)
        words = " ".join(container.command)
        clean(words, said)
        if code != 0:
            raise ImageError(f"{words}: exit code {code}:\n{said}")
        print(f"{words}: {len(said.splitlines())} lines", flush=True)


def main() -> int:
    """Build, run, and tell."""
    parser = argparse.ArgumentParser(prog="make image")
    parser.add_argument("--engine", help="docker or podman; default: what there is")
    parser.add_argument("--tag", default="embellie:dev", help="name of the image (%(default)s)")
    parser.add_argument("--build-flag", action="append", default=[], help="handed to the engine's build")
    parser.add_argument("--no-build", action="store_true", help="look at an image that was built before")
    options = parser.parse_args()
    try:
        image = Image(engine=find_engine(options.engine), tag=options.tag)
        if not options.no_build:
            image.build(options.build_flag)
        check(image)
        try_on_cluster(image)
        print(f"{image.tag} does what the chart asks of it; {image.size_mb():.0f} MB unpacked")
    except ImageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
