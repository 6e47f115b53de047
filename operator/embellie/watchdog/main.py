# SPDX-License-Identifier: Apache-2.0
"""The command `embellie-watchdog`."""

import argparse
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from embellie.watchdog import commands
from embellie.watchdog.api import Api, ConfigurationError, connect
from embellie.watchdog.clearing import run_on
from embellie.watchdog.guard import Guard, GuardOptions
from embellie.watchdog.health import serve_health

EXIT_WITHIN_SECONDS = 1.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        api = connect(options.kubeconfig)
    except ConfigurationError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    command = {"run": _run, "release": _release, "uninstall": _uninstall, "check": _check}[options.command]
    return command(api, options)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.5 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of seconds from 0.5 to 86400")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="embellie-watchdog", description="Release what is held when the operator is gone."
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--namespace", default="embellie-system", help="the release's namespace (%(default)s)")
    common.add_argument("--name", default="embellie", help="the chart's full name (%(default)s)")
    common.add_argument("--identity", default=socket.gethostname(), help="who is acting, as told in Leases and Events")
    common.add_argument("--kubeconfig", type=Path, help="instead of the pod's own token")
    verbs = parser.add_subparsers(dest="command", required=True)

    run = verbs.add_parser("run", parents=[common], help="watch the heartbeat; release when it stops")
    run.add_argument("--dead-man-seconds", type=_seconds, default=120.0, help="silence that counts as gone")
    run.add_argument("--release-seconds", type=_seconds, default=300.0, help="spread the releases over this time")
    run.add_argument("--health-port", type=int, default=8081, help="where /healthz is answered; 0: nowhere")

    release = verbs.add_parser("release", parents=[common], help="release everything that is held, now")
    release.add_argument("--all", action="store_true", required=True, help="yes, everything")
    release.add_argument("--lock", action="store_true", help="also keep the operator from holding again")
    uninstall = verbs.add_parser("uninstall", parents=[common], help="lock the switch, then release everything")
    for verb in (release, uninstall):
        verb.add_argument("--release-seconds", type=_seconds, default=120.0, help="spread the releases over this time")
        verb.add_argument(
            "--timeout-seconds", type=_seconds, default=280.0, help="give up, and say so, after this time"
        )

    check = verbs.add_parser("check", parents=[common], help="prove that the installation answers")
    check.add_argument(
        "--heartbeat-within", type=_seconds, metavar="SECONDS", help="fail unless a turn was completed in this time"
    )
    check.add_argument("--wait-seconds", type=_seconds, default=30.0, help="time for what is being installed")
    return parser


def _run(api: Api, options: argparse.Namespace) -> int:
    stop = threading.Event()

    def leave(_signal: int, _frame: FrameType | None) -> None:
        stop.set()
        # A request may hang for its whole timeout; nothing is lost by leaving in the middle of one.
        timer = threading.Timer(EXIT_WITHIN_SECONDS, os._exit, args=(0,))
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    guard = Guard(
        api,
        GuardOptions(
            namespace=options.namespace,
            name=options.name,
            identity=options.identity,
            dead_man_seconds=options.dead_man_seconds,
            release_seconds=options.release_seconds,
        ),
        stop,
    )
    server = serve_health(options.health_port, guard.alive) if options.health_port else None
    guard.run()
    if server:
        server.shutdown()
    return 0


def _release(api: Api, options: argparse.Namespace) -> int:
    until = options.timeout_seconds
    fault = commands.switch_off(api, options.namespace, options.name, lock=options.lock, until=0.0)
    if fault:
        sys.stderr.write(f"warning: the switch could not be turned off ({fault}); new work may still be held\n")
    progress = commands.release_all(
        api, identity=options.identity, release_seconds=options.release_seconds, timeout_seconds=until
    )
    # After the release, which must not wait for many pods that take their time.
    left = run_on(api, options.identity)
    if left:
        sys.stderr.write(f"warning: {left}\n")
    print(f"{progress.released} released, {progress.left} still held")
    return 0 if progress.clean else 1


def _uninstall(api: Api, options: argparse.Namespace) -> int:
    code, sentence = commands.uninstall(
        api,
        namespace=options.namespace,
        name=options.name,
        identity=options.identity,
        release_seconds=options.release_seconds,
        timeout_seconds=options.timeout_seconds,
    )
    print(sentence)
    return code


def _check(api: Api, options: argparse.Namespace) -> int:
    results = commands.check(
        api,
        namespace=options.namespace,
        name=options.name,
        heartbeat_within_s=options.heartbeat_within,
        wait_seconds=options.wait_seconds,
    )
    for good, sentence in results:
        print(f"{'ok  ' if good else 'FAIL'}  {sentence}")
    return 0 if all(good for good, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
