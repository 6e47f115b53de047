# SPDX-License-Identifier: Apache-2.0
"""The command line: `embellie-forecast serve | train | backtest`."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from embellie_forecast.clock import ForecastClock, parse_clock
from embellie_forecast.folders import cache_folder, models_folder, sweep

DEFAULT_DIRECTORY = "/var/lib/embellie"
MIN_EVERY_SECONDS = 60


def wait_patiently() -> None:
    """Let OpenMP threads sleep while they wait: on a busy machine spinning costs ten times the work itself.

    It takes effect because scikit-learn is imported only afterwards.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OMP_NUM_THREADS", "2")


def duration(text: str) -> timedelta:
    """Read `30m`, `1h`, `6h` or `1d`.

    >>> duration("90m")
    datetime.timedelta(seconds=5400)
    """
    units = {"m": 60, "h": 3600, "d": 86400}
    number, unit = text[:-1], text[-1:]
    if unit not in units or not number.isascii() or not number.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration like 30m, 1h or 1d")
    seconds = int(number) * units[unit]
    if not MIN_EVERY_SECONDS <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} must lie between 1m and 1d")
    return timedelta(seconds=seconds)


def clock(text: str) -> ForecastClock:
    """Read the clock flag, with argparse's kind of error."""
    try:
        return parse_clock(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    root = argparse.ArgumentParser(prog="embellie-forecast", description="Forecasts when the grid will be clean.")
    commands = root.add_subparsers(dest="command", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        part = commands.add_parser(name, help=text, description=text)
        clocks = "system, or replay:ORIGIN,WALL_ORIGIN,FACTOR"
        part.add_argument("--clock", type=clock, default="system", help=clocks)
        part.add_argument("--cache", type=Path, default=None, help="folder of models and archives")
        return part

    serve = command("serve", "Issue forecasts for the zones of the exchange directory until stopped.")
    serve.add_argument("--dir", type=Path, default=Path(DEFAULT_DIRECTORY), help="exchange directory")
    serve.add_argument("--every", type=duration, default="1h", help="clock time between issues, as in 1h (default)")
    serve.add_argument("--step", choices=("source", "1h"), default="source",
                       help="source (default): 15 or 30 minutes where a feed tells them; 1h: always hours")  # fmt: skip
    training = command("train", "Train the models for the clock's time and keep them in the cache.")
    training.add_argument("--region", action="append", help="a carried grid region; default: all")
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = parser().parse_args(arguments)
    wait_patiently()
    try:
        return {"serve": _serve, "train": _train}[options.command](options)
    except (ValueError, OSError) as error:
        print(f"embellie-forecast: {error}", file=sys.stderr)
        return 1


def _serve(options: argparse.Namespace) -> int:
    from embellie_forecast.service import Service, make_ladder, stop_on_signals

    cache = options.cache or cache_folder()
    for folder in (options.dir, cache, models_folder(cache)):
        sweep(folder)
    ladder = make_ladder(options.clock, cache, own_step=options.step == "source")
    service = Service(directory=options.dir, clock=options.clock, ladder=ladder, every=options.every)
    stop_on_signals(service)
    service.run()
    return 0


def _train(options: argparse.Namespace) -> int:
    from embellie_forecast.history_files import carried_zones
    from embellie_forecast.service import make_ladder
    from embellie_forecast.zones import Zone

    ladder, now = make_ladder(options.clock, options.cache or cache_folder()), options.clock.now()
    for region in options.region or carried_zones():
        began = time.monotonic()
        zone = Zone(name=region.lower(), grid_region=region)
        if not ladder.needs_training(zone, now):
            print(f"{region}: nothing to train: its models are there, or its data are too old for any")
            continue
        ladder.train(zone, now)
        print(f"{region}: models ready after {time.monotonic() - began:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
