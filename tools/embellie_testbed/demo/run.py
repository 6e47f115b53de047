# SPDX-License-Identifier: Apache-2.0
"""Runs the demo: bring everything up, submit, watch, drain, add up, and leave nothing behind.

python -m embellie_testbed.demo                      live view in the terminal
python -m embellie_testbed.demo --headless --out F   a line now and then, and the numbers as JSON
"""

import argparse
import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.live import Live

from embellie.domain.clock import AcceleratedClock
from embellie.simulation import load_trace
from embellie_testbed import build
from embellie_testbed.controlplane import CommandError, ControlPlane
from embellie_testbed.demo import machinery, world
from embellie_testbed.demo.accounts import read_ledger
from embellie_testbed.demo.feeder import Feeder
from embellie_testbed.demo.gauges import Gauges
from embellie_testbed.demo.grid import GridTruth, load_truth, write_intensity
from embellie_testbed.demo.history import History, observed
from embellie_testbed.demo.machinery import Pids
from embellie_testbed.demo.observer import Observer, Place
from embellie_testbed.demo.ribbon import Scale
from embellie_testbed.demo.scenario import BEGIN, GPUS, ZONES, Scenario
from embellie_testbed.demo.scenario import build as build_scenario
from embellie_testbed.demo.summary import Measured, Summary, summarise, write_json
from embellie_testbed.demo.summary_view import render_summary
from embellie_testbed.demo.view import render, status_line
from embellie_testbed.processes import ProgramError, free_port

FACTOR = 900.0
BUDGET_SECONDS = 325.0
"""Real seconds after which the demo stops waiting for the last jobs, at `FACTOR`; more where the clock is slower."""
GRID_HOURS = 168
"""How much of the grid's history is at hand: more than any history of the demo can last."""
_FRAME_S, _STATUS_S = 0.25, 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the demo was asked to be."""

    headless: bool
    out: Path | None
    seed: int
    factor: float
    budget_s: float
    prepare: bool
    ledger: Path | None
    """Where the ledger is kept; None: it goes with the demo."""


class Progress:
    """Says what is being set up, with the seconds it took."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.began = time.monotonic()

    def __call__(self, text: str) -> None:
        """Say one step."""
        self._console.print(f"[grey58]{time.monotonic() - self.began:5.1f} s[/]  {text}", soft_wrap=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; the exit code is 0 when it came to its end."""
    options = parse_options(arguments)
    console = Console(highlight=False)
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        if options.prepare:
            build.binaries()
            machinery.train_forecaster(BEGIN, factor=options.factor)
            return 0
        summary = demonstrate(options, console)
    except KeyboardInterrupt:
        console.print("\nstopped; everything that was started is gone")
        return 130
    except (build.BuildError, ProgramError, CommandError, TimeoutError) as error:
        console.print(f"[#e0483e]the demo could not go on:[/] {error}")
        return 1
    console.print(render_summary(summary, width=min(console.width, 120)))
    if options.ledger is not None:
        console.print(
            f"[grey58]the ledger is {options.ledger}; check it: embellie ledger verify --ledger {options.ledger}"
        )
    if options.out is not None:
        write_json(summary, options.out)
        console.print(f"[grey58]written to {options.out}")
    return 0


def demonstrate(options: Options, console: Console) -> Summary:
    """Bring it up, let it run, take it down and add up."""
    say = Progress(console)
    scenario = build_scenario(load_trace(), seed=options.seed)
    say(
        f"{len(scenario.jobs)} training jobs of two days, {100 * scenario.utilisation:.0f} % of {GPUS} GPUs "
        f"({scenario.left_out} longer than a day left out, {scenario.not_drawn} not drawn)"
    )
    machinery.train_forecaster(scenario.begin, factor=options.factor)
    say("forecaster trained on what was known before the demo begins (kept for the next time)")
    truths = {site.name: load_truth(site, begin=scenario.begin, hours=GRID_HOURS) for site in ZONES}
    with ControlPlane.start(scheduler=True, kwok=True) as plane:
        say("control plane: etcd, API server, controller manager, scheduler, kwok")
        plane.add_nodes(*world.node_pools())
        machinery.install_chart(plane)
        say("32 nodes of 8 GPUs, the chart installed by helm")
        ledger = options.ledger or plane.directory / "ledger.sqlite"
        clock, url, pids = _start_all(plane, scenario, truths, options, ledger, say)
        with _observing(plane, scenario, clock, truths, url) as observer:
            shown = _Show(
                options=options, console=console, plane=plane, observer=observer, scenario=scenario, truths=truths
            )
            measured = _run_jobs(shown, clock=clock, pids=pids, began=say.began)
            came = observer.came()
            history = _history(observer, came, clock)
            _close_the_books(plane, truths, clock)
        rest = measured.jobs_of_all - measured.jobs_finished
        say(f"{f'time is up, with {rest} jobs to go' if rest else 'the jobs are through'}; reading the ledger")
        account = read_ledger(ledger, scenario.begin)
        say("taking everything down")
    return summarise(came, truths, history, measured, account)


def _close_the_books(plane: ControlPlane, truths: dict[str, GridTruth], clock: AcceleratedClock) -> None:
    """Let the operator account the hour in which the last job ended, with what is known of the grids by then."""
    hour = timedelta(seconds=machinery.LEDGER_INTERVAL_S)
    time.sleep(clock.wall_seconds(hour) + 2.0)
    write_intensity(plane.directory / "exchange" / "intensity", truths.values(), clock.now())
    time.sleep(2.0)


def _start_all(
    plane: ControlPlane,
    scenario: Scenario,
    truths: dict[str, GridTruth],
    options: Options,
    ledger: Path,
    say: Progress,
) -> tuple[AcceleratedClock, str, Pids]:
    exchange = plane.directory / "exchange"
    exchange.mkdir()
    clock = machinery.clock_that_starts(scenario.begin, factor=options.factor)
    operator_port = free_port()
    url = machinery.start_telemetry(plane, clock=clock, truths=truths, operator_port=operator_port)
    machinery.apply_world(plane)
    say("zones, rows, policy; exporter and Prometheus")
    for old in ledger.parent.glob(f"{ledger.name}*"):
        # Each demo begins at the same hour of 2021: a ledger can tell it only once.
        old.unlink()
    pids = machinery.start_product(
        plane, clock=clock, prometheus_url=url, exchange=exchange, ledger=ledger, metrics_port=operator_port
    )
    machinery.wait_until_holding(plane, exchange=exchange, seconds=90.0)
    say("operator, forecaster and watchdog run; holding is on")
    return clock, url, pids


@contextlib.contextmanager
def _observing(
    plane: ControlPlane, scenario: Scenario, clock: AcceleratedClock, truths: dict[str, GridTruth], url: str
) -> Iterator[Observer]:
    places = {
        manifest["metadata"]["name"]: Place(zone=pool.zone, row=pool.row_of(index))
        for pool in world.node_pools()
        for index, manifest in enumerate(pool.manifests())
    }
    observer = Observer(
        connect=plane.rest,
        namespace=world.NAMESPACE,
        scenario=scenario,
        clock=clock,
        truths=truths,
        places=places,
        gauges=Gauges(url=url, queries=machinery.gauge_queries()),
        forecasts=plane.directory / "exchange",
    )
    try:
        observer.start(seconds=20.0)
        yield observer
    finally:
        observer.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Show:
    """What is shown, and where."""

    options: Options
    console: Console
    plane: ControlPlane
    observer: Observer
    scenario: Scenario
    truths: dict[str, GridTruth]


def _run_jobs(shown: _Show, *, clock: AcceleratedClock, pids: Pids, began: float) -> Measured:
    failures: list[str] = []
    feeder = Feeder(
        rest=shown.plane.rest(),
        scenario=shown.scenario,
        clock=clock,
        factor=shown.options.factor,
        namespace=world.NAMESPACE,
        record=shown.observer.record,
        failed=failures.append,
    )
    feeder.start()
    try:
        _follow(shown, feeder, stop_at=began + shown.options.budget_s)
    finally:
        feeder.stop()
    if failures:
        raise ProgramError(f"{len(failures)} jobs could not be submitted, the first: {failures[0]}")
    now = clock.now()
    observer = shown.observer
    with observer.record.lock:
        jobs = list(observer.record.jobs.values())
    return Measured(
        jobs_of_all=len(shown.scenario.jobs),
        jobs_submitted=len(jobs),
        jobs_finished=len(jobs) - observer.unfinished(),
        held=sum(1 for job in jobs if job.held),
        late=tuple((job.name, late.total_seconds()) for job in jobs if (late := observer.past_bound(job)) is not None),
        unlabelled_delayed=sum(1 for job in jobs if not job.flex and job.touched),
        rigid_held=sum(1 for job in jobs if job.flex == "rigid" and job.held),
        factor=shown.options.factor,
        grid_hours=(now - shown.scenario.begin).total_seconds() / 3600,
        wall_s=time.monotonic() - began,
        operator_peak_rss_mib=machinery.peak_rss_mib(pids.operator),
    )


def _follow(shown: _Show, feeder: Feeder, *, stop_at: float) -> None:
    """Show what happens until every job is through or the time is up."""
    scale = carbon_scale(shown.truths, shown.scenario)
    live = shown.console.is_terminal and not shown.options.headless
    with contextlib.ExitStack() as stack:
        screen = None
        if live:
            screen = stack.enter_context(Live(console=shown.console, auto_refresh=False, screen=True))
        next_line = 0.0
        while time.monotonic() < stop_at:
            if feeder.done.is_set() and shown.observer.unfinished() == 0:
                return
            _check_alive(shown.plane)
            due = time.monotonic() >= next_line
            if screen is not None:
                size, picture = shown.console.size, shown.observer.picture(note=_note(feeder))
                screen.update(render(picture, width=size.width, height=size.height, scale=scale), refresh=True)
            elif due:
                line = status_line(shown.observer.picture(note=_note(feeder)))
                shown.console.print(line, highlight=False, soft_wrap=True)
            if due:
                write_intensity(
                    shown.plane.directory / "exchange" / "intensity",
                    shown.truths.values(),
                    shown.observer.clock_time(time.time()),
                )
                next_line = time.monotonic() + _STATUS_S
            time.sleep(_FRAME_S)


def carbon_scale(truths: dict[str, GridTruth], scenario: Scenario) -> Scale:
    """Return the intensities between which colours run: those of the two days, with a little air above."""
    values = [
        float(v)
        for truth in truths.values()
        for v in truth.carbon_g_per_kwh[truth.index(scenario.begin) : truth.index(scenario.end_of_arrivals)]
    ]
    return Scale(low=10.0 * int(min(values) * 0.85 / 10), high=10.0 * (int(max(values) * 1.06 / 10) + 1))


def _note(feeder: Feeder) -> str:
    return "no more jobs come: draining what is held and running" if feeder.done.is_set() else ""


def _check_alive(plane: ControlPlane) -> None:
    for name in ("operator", "forecaster"):
        code = plane.processes.exit_code(name)
        if code is not None:
            raise ProgramError(f"{name} ended with {code}:\n{plane.processes.log_tail(name)}")


def _history(observer: Observer, scenario: Scenario, clock: AcceleratedClock) -> History:
    with observer.record.lock:
        return observed(
            observer.record.jobs,
            scenario,
            clock_time=observer.clock_time,
            place_of=observer.place_of,
            stopped=clock.now(),
        )


def _as_interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def parse_options(arguments: list[str] | None) -> Options:
    """Read the command line; what cannot be used is refused here."""
    parser = argparse.ArgumentParser(
        prog="python -m embellie_testbed.demo", description="Embellie's main job, on a real control plane."
    )
    parser.add_argument("--headless", action="store_true", help="no live view, a line every ten seconds")
    parser.add_argument("--out", type=Path, help="write the numbers to this file as JSON")
    parser.add_argument("--seed", type=int, default=1, help="which jobs are drawn from the trace (default 1)")
    parser.add_argument("--factor", type=float, default=FACTOR, help="how much faster than real time (default 900)")
    parser.add_argument(
        "--budget-seconds",
        type=float,
        help=f"when to stop waiting for the last jobs (default {BUDGET_SECONDS:g} at factor {FACTOR:g})",
    )
    parser.add_argument("--prepare", action="store_true", help="only build and train what later runs find ready")
    parser.add_argument("--ledger", type=Path, help="keep the ledger in this file (an older one is replaced)")
    found = parser.parse_args(arguments)
    if not 60 <= found.factor <= 3600:
        parser.error("--factor must lie between 60 and 3600")
    return Options(
        headless=found.headless,
        out=found.out,
        seed=found.seed,
        factor=found.factor,
        budget_s=found.budget_seconds or BUDGET_SECONDS * max(1.0, FACTOR / found.factor),
        prepare=found.prepare,
        # The operator writes it, and runs in a folder of its own.
        ledger=found.ledger and found.ledger.absolute(),
    )
