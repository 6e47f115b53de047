# SPDX-License-Identifier: Apache-2.0
"""The command line: `embellie-forecast serve | train | show | backtest`."""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from embellie_forecast.clock import ForecastClock, parse_clock

DEFAULT_DIRECTORY = "/var/lib/embellie"
MIN_EVERY_SECONDS = 60


def default_cache() -> Path:
    """Return where trained models are kept: $EMBELLIE_CACHE, else the user's cache folder."""
    own = os.environ.get("EMBELLIE_CACHE")
    if own:
        return Path(own) / "models"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embellie" / "models"


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


def days(text: str) -> tuple[datetime, datetime]:
    """Read `2021-07-01:2021-12-28` as two UTC midnights, both included."""
    first, _, last = text.partition(":")
    try:
        begin, end = (datetime.fromisoformat(day).replace(tzinfo=UTC) for day in (first, last))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not FIRST:LAST, as in 2021-07-01:2021-12-28") from error
    if end < begin:
        raise argparse.ArgumentTypeError(f"{text!r} ends before it begins")
    return begin, end


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    root = argparse.ArgumentParser(prog="embellie-forecast", description="Forecasts when the grid will be clean.")
    commands = root.add_subparsers(dest="command", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        part = commands.add_parser(name, help=text, description=text)
        if name != "backtest":
            clocks = "system, or replay:ORIGIN,WALL_ORIGIN,FACTOR"
            part.add_argument("--clock", type=clock, default="system", help=clocks)
            part.add_argument("--cache", type=Path, default=None, help="folder of trained models")
        return part

    serve = command("serve", "Issue forecasts for the zones of the exchange directory until stopped.")
    serve.add_argument("--dir", type=Path, default=Path(DEFAULT_DIRECTORY), help="exchange directory")
    serve.add_argument("--every", type=duration, default="1h", help="clock time between issues, as in 1h (default)")
    training = command("train", "Train the models for the clock's time and keep them in the cache.")
    training.add_argument("--region", action="append", help="a carried grid region; default: all")
    show = command("show", "Print the forecast of a grid region at the clock's time.")
    show.add_argument("--zone", required=True, help="a carried grid region, as in US-CISO")
    show.add_argument("--hours", type=int, default=48, help="how many hours to print")
    show.add_argument("--json", action="store_true", help="print the file's format instead")
    backtest = command("backtest", "Score past forecasts; the model is trained only on data before the test.")
    backtest.add_argument("--zone", required=True, help="a carried grid region, as in US-CISO")
    backtest.add_argument("--test", type=days, required=True, help="issue days, as in 2021-07-01:2021-12-28")
    backtest.add_argument("--issue-hour", type=int, default=0, choices=range(24), metavar="0..23", help="UTC hour")
    backtest.add_argument("--generation-delay-hours", type=int, default=None, help="default 1; the papers assume 0")
    backtest.add_argument("--weather-delay-hours", type=int, default=None, help="default 5; the papers assume 0")
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = parser().parse_args(arguments)
    wait_patiently()
    try:
        return {"serve": _serve, "train": _train, "show": _show, "backtest": _backtest}[options.command](options)
    except (ValueError, OSError) as error:
        print(f"embellie-forecast: {error}", file=sys.stderr)
        return 1


def _serve(options: argparse.Namespace) -> int:
    from embellie_forecast.service import Service, make_ladder, stop_on_signals

    ladder = make_ladder(options.clock, options.cache or default_cache())
    service = Service(directory=options.dir, clock=options.clock, ladder=ladder, every=options.every)
    stop_on_signals(service)
    service.run()
    return 0


def _train(options: argparse.Namespace) -> int:
    from embellie_forecast.dataset import carried_regions
    from embellie_forecast.service import make_ladder

    ladder, now = make_ladder(options.clock, options.cache or default_cache()), options.clock.now()
    for region in options.region or carried_regions():
        began = time.monotonic()
        if not ladder.needs_training(region, now):
            print(f"{region}: nothing to train: no live feed, and the carried data are too old for a calendar model")
            continue
        ladder.load_or_train(region, now)
        print(f"{region}: models ready after {time.monotonic() - began:.1f} s", flush=True)
    return 0


def _show(options: argparse.Namespace) -> int:
    from embellie_forecast.service import describe, make_ladder

    ladder, now = make_ladder(options.clock, options.cache or default_cache()), options.clock.now()
    if ladder.needs_training(options.zone, now):
        ladder.load_or_train(options.zone, now)
    issued = ladder.issue(options.zone.lower(), options.zone, now)
    document = issued.document
    if options.json:
        print(json.dumps(document.to_json()))
        return 0
    print(f"{options.zone}: {describe(issued)}")
    for reason in issued.reasons:
        print(f"  not {reason}")
    print(f"{'hour (UTC)':18}{'g/kWh':>7}{'10 %':>7}{'90 %':>7}{'renewable':>11}{'air °C':>8}")
    for k in range(max(0, min(options.hours, document.carbon_mean_g_per_kwh.size))):
        low, middle, high = document.carbon_g_per_kwh[:, k]
        air = "" if document.ambient_temperature_c is None else f"{document.ambient_temperature_c[1, k]:8.1f}"
        at = document.start + k * document.step
        print(f"{at:%Y-%m-%dT%H:%MZ} {middle:7.0f}{low:7.0f}{high:7.0f}{document.renewable_share[1, k]:11.0%}{air}")
    return 0


def _backtest(options: argparse.Namespace) -> int:
    from embellie_forecast.backtest import run, table
    from embellie_forecast.dataset import hour_of, instant_of, load_carried
    from embellie_forecast.features import Delays
    from embellie_forecast.model import Params

    delays = Delays()
    if options.generation_delay_hours is not None:
        delays = replace(delays, generation_hours=options.generation_delay_hours)
    if options.weather_delay_hours is not None:
        delays = replace(delays, weather_hours=options.weather_delay_hours)
    first, last = (hour_of(day) + options.issue_hour for day in options.test)
    scores = run(load_carried(options.zone), first, last, replace(Params(), delays=delays))
    print(f"{options.zone}, issues {instant_of(first):%Y-%m-%dT%HZ} to {instant_of(last):%Y-%m-%dT%HZ}, one a day")
    print(f"generation known after {delays.generation_hours} h, weather after {delays.weather_hours} h")
    print(table(scores))
    return 0


if __name__ == "__main__":
    sys.exit(main())
