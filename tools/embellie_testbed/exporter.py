# SPDX-License-Identifier: Apache-2.0
"""A process that answers for all simulated nodes what dcgm-exporter, ipmi_exporter and a building's gateway would say.

What it says follows from the pods that really run on each node, which it watches through the API server. It can be
told to misbehave by a small JSON file that is read anew at each scrape:

    {"freeze": true}                                     repeat the last answer for ever
    {"drop": ["ipmi_temperature_celsius"]}               leave metrics out; {"drop": true} answers 503
    {"absurd": {"ipmi_temperature_celsius": 900}}        every series of the metric has this value
"""

import argparse
import json
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embellie.domain.clock import parse_clock
from embellie_testbed.ambient import Ambient
from embellie_testbed.paths import REPOSITORY
from embellie_testbed.processes import free_port
from embellie_testbed.rest import Rest
from embellie_testbed.room import Room, Sample
from embellie_testbed.watch import follow

if TYPE_CHECKING:
    from embellie_testbed.controlplane import ControlPlane

_HELP = {
    "DCGM_FI_DEV_POWER_USAGE": "Power draw of the GPU (in W).",
    "DCGM_FI_DEV_GPU_TEMP": "GPU temperature (in C).",
    "ipmi_temperature_celsius": "Temperature reading in degree Celsius.",
    "ipmi_dcmi_power_consumption_current_watts": "Current power consumption of the node in watts.",
    "cooling_supply_temperature_celsius": "Temperature of what the cooling delivers to a row.",
    "cooling_return_temperature_celsius": "Temperature of what comes back from a row to its cooling.",
    "facility_power_watts": "Power of a zone at its utility meter, cooling included.",
    "outside_temperature_celsius": "Temperature outside the building.",
}


def render(samples: list[Sample]) -> str:
    """Write samples in the Prometheus text format, each metric's series together."""
    families: dict[str, list[str]] = {}
    for name, labels, value in samples:
        pairs = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        families.setdefault(name, []).append(f"{name}{{{pairs}}} {value:.6g}")
    lines: list[str] = []
    for name, series in families.items():
        lines += [f"# HELP {name} {_HELP[name]}", f"# TYPE {name} gauge", *series]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Feed:
    """What one scrape is answered with, misbehaviour included."""

    def __init__(self, room: Room, lock: threading.Lock, control: Path | None) -> None:
        self._room = room
        self._lock = lock
        self._control = control
        self._last = ""

    def answer(self) -> str | None:
        """Return the text of a scrape; None for no answer."""
        wish = self._wish()
        if wish.get("drop") is True:
            return None
        if wish.get("freeze") and self._last:
            return self._last
        with self._lock:
            samples = list(self._room.samples())
        dropped = set(wish.get("drop") or ())
        absurd = wish.get("absurd", {})
        samples = [
            (name, labels, float(absurd.get(name, value))) for name, labels, value in samples if name not in dropped
        ]
        self._last = render(samples)
        return self._last

    def _wish(self) -> dict[str, Any]:
        if self._control is None or not self._control.exists():
            return {}
        wish: dict[str, Any] = json.loads(self._control.read_text(encoding="utf-8") or "{}")
        return wish


def serve(feed: Feed, port: int) -> None:
    """Answer /metrics on loopback until killed."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer one scrape."""
            text = feed.answer() if self.path == "/metrics" else None
            body = (text or "no answer\n").encode()
            self.send_response(200 if text is not None else 503)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: a line per scrape helps nobody."""

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


def _feed_room(room: Room, lock: threading.Lock, kubeconfig: Path) -> list[threading.Event]:
    """Start the two watches; each event is set once its first list is in."""

    def locked(change: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any, **named: Any) -> None:
            with lock:
                change(*arguments, **named)

        return call

    listed = [threading.Event(), threading.Event()]
    watches = (
        (
            "/api/v1/nodes",
            locked(room.set_node),
            locked(lambda node: room.remove_node(node["metadata"]["name"])),
            locked(lambda nodes: room.keep_only(node_names={node["metadata"]["name"] for node in nodes})),
            listed[0],
        ),
        (
            # Only running pods: the server then tells that a pod ended as if it had been deleted.
            "/api/v1/pods?fieldSelector=status.phase%3DRunning",
            locked(room.set_pod),
            locked(lambda pod: room.remove_pod(pod["metadata"]["uid"])),
            locked(lambda pods: room.keep_only(pod_uids={pod["metadata"]["uid"] for pod in pods})),
            listed[1],
        ),
    )
    for watch in watches:
        threading.Thread(target=follow, args=(lambda: Rest.from_kubeconfig(kubeconfig), *watch), daemon=True).start()
    return listed


def main(arguments: list[str] | None = None) -> int:
    """Run the exporter until it is killed."""
    parser = argparse.ArgumentParser(prog="python -m embellie_testbed.exporter", description=__doc__.splitlines()[0])
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clock", default="system", help="system, or replay:ORIGIN,WALL_ORIGIN,FACTOR")
    parser.add_argument("--ambient", help="CSV file (timestamp_utc,zone,ambient_c) or a constant in degrees Celsius")
    parser.add_argument("--rows", type=Path, help="JSON file with changes of rows' halls by name")
    parser.add_argument("--control", type=Path, help="JSON file that makes it misbehave")
    options = parser.parse_args(arguments)
    room = Room(now=parse_clock(options.clock).now, ambient=_ambient(options.ambient), rows=_rows(options.rows))
    lock = threading.Lock()
    for event in _feed_room(room, lock, options.kubeconfig):
        event.wait()
    serve(Feed(room, lock, options.control), options.port)
    return 0


def _ambient(text: str | None) -> Ambient:
    if text is None:
        return Ambient()
    try:
        return Ambient(constant_c=float(text))
    except ValueError:
        return Ambient.read(Path(text))


def _rows(path: Path | None) -> dict[str, dict[str, float]]:
    if path is None:
        return {}
    content: dict[str, dict[str, float]] = json.loads(path.read_text(encoding="utf-8"))
    return content


@dataclass(frozen=True, slots=True, kw_only=True)
class Exporter:
    """A running exporter."""

    port: int
    control: Path

    @property
    def target(self) -> str:
        """What Prometheus scrapes."""
        return f"127.0.0.1:{self.port}"

    def misbehave(self, **wish: Any) -> None:
        """Make it misbehave (`freeze`, `drop`, `absurd`); without arguments it is good again."""
        # Renamed into place, so that no scrape reads half of it.
        draft = self.control.with_suffix(".draft")
        draft.write_text(json.dumps(wish), encoding="utf-8")
        draft.rename(self.control)


def start_exporter(
    plane: "ControlPlane",
    *,
    clock: str = "system",
    ambient: Path | float | None = None,
    rows: dict[str, dict[str, float]] | None = None,
) -> Exporter:
    """Start an exporter beside a control plane, and wait until it answers."""
    exporter = Exporter(port=free_port(), control=plane.directory / "exporter-control.json")
    # An earlier exporter of the same control plane may have been told to misbehave.
    exporter.control.unlink(missing_ok=True)
    command: list[str | Path] = [sys.executable, "-m", "embellie_testbed.exporter", "--kubeconfig", plane.kubeconfig,
               "--port", str(exporter.port), "--clock", clock, "--control", exporter.control]  # fmt: skip
    if ambient is not None:
        command += ["--ambient", str(ambient)]
    if rows is not None:
        path = plane.directory / "rows.json"
        path.write_text(json.dumps(rows), encoding="utf-8")
        command += ["--rows", path]
    source_roots = f"{REPOSITORY / 'tools'}:{REPOSITORY / 'operator'}"
    plane.processes.start("exporter", command, env={"PYTHONPATH": source_roots})
    plane.processes.wait_for("exporter", lambda: answers(exporter.port), seconds=90.0, what="the exporter answers")
    return exporter


def answers(port: int) -> bool:
    """Tell whether something accepts connections on a loopback port."""
    import socket

    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
