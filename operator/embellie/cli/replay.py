# SPDX-License-Identifier: Apache-2.0
"""`embellie replay`: what would have happened here, on your own accounting. Needs no cluster and no network."""

import time
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embellie.cli.grid_history import GridFile, read_grid
from embellie.cli.replay_inputs import (
    Options,
    cap_of,
    gather,
    on_site_of,
    outlook_for,
    own_outlook_for,
    parse_seeds,
    parse_time,
)
from embellie.cli.values import FiniteRange, NewFile, readable, write, write_json
from embellie.simulation.whatif.baselines import THRESHOLD_G_PER_KWH
from embellie.simulation.whatif.lengths import LENGTHS
from embellie.simulation.whatif.ours import WAIT_PRICE
from embellie.simulation.whatif.slack import LAG_RULES
from embellie.simulation.whatif.study import POLICIES

if TYPE_CHECKING:
    from embellie.simulation.whatif.carbon_file import CarbonHistory
    from embellie.simulation.whatif.jobs_file import JobTrace

FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
_SHOWN = 5
PRESETS: dict[str, dict[str, Any]] = {
    "gaia": {
        "step": "5s",
        "watts_per_gpu": 1.0,
        "idle_watts_per_gpu": 0.0,
        "pue": 1.0,
        "embodied_grams_per_gpu_hour": 0.0,
        "wait": "6x24",
        "lengths": "queue-mean",
        "horizon": "24h",
    },
    "lwa": {
        "step": "30min",
        "watts_per_job": 2036.6,
        "idle_watts_per_gpu": 0.0,
        "pue": 1.0,
        "embodied_grams_per_gpu_hour": 0.0,
    },
}
"""Settings of published replays; what is given on the command line wins."""


@click.group(invoke_without_command=True, short_help="Replay your own jobs on a grid's history.")
@click.option("--jobs", type=FILE, help="The job trace: CSV with job_id, submit_time_s, duration_s and gpus.")
@click.option("--sacct", type=FILE, help="Slurm's accounting instead of --jobs: the output of sacct --parsable2.")
@click.option(
    "--carbon",
    type=GridFile(),
    help="The grid's history: CSV with a column of times (UTC) and one of g/kWh; or a carried grid: US-CISO, US-PJM.",
)
@click.option("--column", help="Column of the carbon file; without it the life-cycle intensity.")
@click.option("--time-column", default="auto", show_default=True, help="Its column of times.")
@click.option("--start-hour", type=click.IntRange(0), help="Hour of the carbon file where the trace begins.")
@click.option("--hours", type=FiniteRange(0, min_open=True), help="Use so many hours of carbon; work must end within.")
@click.option("--anchor", help="Instead of --start-hour: the moment (UTC) of submit time 0, such as 2021-03-04T00:00Z.")
@click.option("--from", "submitted_from", help="Replay only work submitted at this moment (UTC) or later.")
@click.option("--until", "submitted_until", help="Replay only work submitted before this moment (UTC).")
@click.option(
    "--step", default="1h", show_default=True, help="Step of decisions: 5s, 30min or 1h. Under a minute: of job times."
)
@click.option("--policy", type=click.Choice(POLICIES), default="embellie", show_default=True, help="Who decides.")
@click.option("--wait", help="Most waiting, by length: 6x24 is 6 h for jobs under two hours, and 24 h for others.")
@click.option("--slack", help="Most waiting, the same for all: 24h. The default.")
@click.option(
    "--lag-rule", type=click.Choice(LAG_RULES), default="none", show_default=True, help="Most waiting, by calendar."
)
@click.option(
    "--capacity",
    type=FiniteRange(0, min_open=True),
    help="GPUs of the cluster; without it there are always enough.",
)
@click.option(
    "--interruptible", default="all", show_default=True, help="What may be paused: all, none, or a share 0..1."
)
@click.option(
    "--forecast", default="perfect", show_default=True, help="perfect, noise:FRACTION (of the mean), or model."
)
@click.option("--horizon", default="96h", show_default=True, help="How far ahead the policy embellie may look.")
@click.option(
    "--lengths", type=click.Choice(LENGTHS), default="true", show_default=True, help="What is known of lengths."
)
@click.option(
    "--wait-price",
    type=FiniteRange(0),
    default=WAIT_PRICE,
    show_default=True,
    help="What an hour's wait of a job must save, as a share of a mean GPU-hour's emissions (embellie); where hours "
    "are much alike, no more than 3 % of how far they lie apart.",
)
@click.option(
    "--threshold",
    type=FiniteRange(0),
    default=THRESHOLD_G_PER_KWH,
    show_default=True,
    help="g/kWh, for the policy threshold.",
)
@click.option(
    "--units", type=click.Choice(["gpus", "cpu"]), default="gpus", show_default=True, help="What --capacity counts."
)
@click.option(
    "--watts-per-gpu",
    type=FiniteRange(0),
    default=900.0,
    show_default=True,
    help="At work, share of the node included.",
)
@click.option("--watts-per-job", type=FiniteRange(0), help="The same power for every job instead.")
@click.option(
    "--idle-watts-per-gpu",
    type=FiniteRange(0),
    default=400.0,
    show_default=True,
    help="Without work; counted with --capacity.",
)
@click.option("--pue", type=FiniteRange(1), default=1.2, show_default=True, help="Facility power over IT power.")
@click.option(
    "--embodied-grams-per-gpu-hour",
    type=FiniteRange(0),
    default=4.0,
    show_default=True,
    help="Making the GPU and its share of the node, spread over its service life.",
)
@click.option(
    "--power-cap",
    type=FiniteRange(0, 100, min_open=True),
    help="Run work under a power limit of so many percent; first come first served runs without.",
)
@click.option(
    "--cap-speed", type=FiniteRange(0, 1, min_open=True), help="Its speed then, 0..1; without it as on V100 (Zeus)."
)
@click.option(
    "--cap-power", type=FiniteRange(0, 1), help="What it draws above idle then, 0..1; without it as on V100 (Zeus)."
)
@click.option(
    "--on-site",
    type=FILE,
    help="What your own sun and wind deliver: CSV of times and kW (solar_kw, wind_kw). Emissions are then those of "
    "what the grid supplies beside. Needs --capacity.",
)
@click.option("--on-site-column", multiple=True, help="Its columns to add up; without it all of kW.")
@click.option("--seeds", default="0", show_default=True, help="Seeds of what is drawn: 3, or 0..9.")
@click.option("--preset", type=click.Choice(sorted(PRESETS)), help="Settings of a published replay.")
@click.option("--json", "json_path", type=NewFile(), help="Write the numbers here.")
@click.option("--html", "html_path", type=NewFile(), help="Write a page with pictures here.")
@click.pass_context
def replay(context: click.Context, /, **values: Any) -> None:
    """Replay a job trace on a grid's history: what would have happened here.

    Savings are those of the whole cluster's power against the same jobs first come first served.
    """
    if context.invoked_subcommand is not None:
        return
    not_given = click.core.ParameterSource.DEFAULT
    for name, value in PRESETS.get(values["preset"] or "", {}).items():
        if context.get_parameter_source(name) is not_given and not (name == "wait" and _says_slack(values)):
            values[name] = value
    if values["units"] == "cpu":
        _ask_of_cpus({n for n in values if context.get_parameter_source(n) is not not_given}, values)
    with readable(ValueError, OSError):
        _replay(Options(**values))


def _ask_of_cpus(given: set[str], values: dict[str, Any]) -> None:
    """Refuse to count CPUs with what a GPU draws, which the defaults tell."""
    wanted = {"embodied_grams_per_gpu_hour"}
    wanted |= {"watts_per_gpu"} if values["watts_per_job"] is None else set()
    wanted |= {"idle_watts_per_gpu"} if values["capacity"] is not None else set()
    wanted -= given | PRESETS.get(values["preset"] or "", {}).keys()
    if wanted:
        told = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(wanted, reverse=True))
        raise click.UsageError(f"--units cpu: the defaults are those of a GPU; say what a CPU has, with {told}")


def _says_slack(values: dict[str, Any]) -> bool:
    return values["slack"] is not None or values["lag_rule"] != "none"


def _replay(options: Options) -> None:
    from embellie.simulation.whatif.report import combined, fields, lines, spoken_period
    from embellie.simulation.whatif.study import How
    from embellie.simulation.whatif.study import replay as run

    trace = _read_trace(options)
    if options.carbon is None:
        raise click.UsageError("give --carbon FILE, the history of the grid")
    history = _read_history(options.carbon, options.column, options.time_column)
    how = How(
        policy=options.policy,
        lengths=options.lengths,
        horizon_h=parse_time(options.horizon, "--horizon").total_seconds() / 3600.0,
        wait_price=options.wait_price,
        threshold_g_per_kwh=options.threshold,
        cap=cap_of(options),
    )
    plants = on_site_of(options, history)
    runs, result, setup = [], None, None
    for seed in parse_seeds(options.seeds):
        began = time.monotonic()
        setup = gather(options, trace, history, seed, plants)
        told = outlook_for(options, setup, options.carbon, history, seed)
        result = run(how, setup, told, own_outlook_for(options, setup, seed))
        runs.append(fields(result, time.monotonic() - began, options.units))
    found = combined(runs)
    found |= {
        "rows_read": trace.rows,
        "rows_left_out": len(trace.left_out),
        "rows_out_of_order": trace.out_of_order,
        "left_out": [{"line": row.line, "why": row.why} for row in trace.left_out[:100]],
        "jobs_after_history": setup.left_out_late if setup else 0,
        "trace_notes": list(trace.notes),
        "carbon_notes": history.notes,
    }
    period = f", {spoken_period(result, setup)}" if result and setup else ""
    first, *rest = lines(found)
    for line in (first + period, *rest):
        click.echo(line)
    if found["jobs_after_history"]:
        click.echo(
            f"  left out                   {found['jobs_after_history']} jobs that the carbon history does not cover"
        )
    write_json(found, options.json_path)
    if options.html_path is not None and result is not None and setup is not None:
        from embellie.simulation.whatif.page import page

        write(page(result, setup, found | runs[-1]), options.html_path)
        click.echo(f"  page                       {options.html_path}")


def _read_history(carbon: Path, column: str | None, time_column: str) -> "CarbonHistory":
    """Read the grid's history, and say what a reader must know of it."""
    history = read_grid(carbon, column, time_column)
    for note in history.notes:
        click.echo(f"{carbon.name}: {note}", err=True)
    return history


def _read_trace(options: Options) -> "JobTrace":
    from embellie.simulation.whatif.jobs_file import read_jobs
    from embellie.simulation.whatif.sacct import read_sacct

    if options.jobs is not None and options.sacct is None:
        trace = read_jobs(options.jobs, options.units)
    elif options.sacct is not None and options.jobs is None:
        trace = read_sacct(options.sacct, options.units)
    else:
        raise click.UsageError("give either --jobs FILE or --sacct FILE")
    for row in trace.left_out[:_SHOWN]:
        click.echo(f"line {row.line} left out: {row.why}", err=True)
    if len(trace.left_out) > _SHOWN:
        counts = ", ".join(f"{count} x {why}" for why, count in trace.reasons().items())
        click.echo(f"{len(trace.left_out)} of {trace.rows} rows left out in all: {counts}", err=True)
    if trace.out_of_order:
        click.echo(f"{trace.out_of_order} rows were out of order and were sorted in", err=True)
    for note in trace.notes:
        click.echo(note, err=True)
    if not trace.jobs:
        raise ValueError("there are no jobs to replay: every row was left out, or there is none")
    return trace


@replay.command(short_help="Show the most that shifting could save.")
@click.option("--carbon", type=GridFile(), required=True, help="The grid's history.")
@click.option("--column", help="Column of the carbon file.")
@click.option("--time-column", default="auto", show_default=True, help="Its column of times.")
@click.option("--job-hours", type=click.IntRange(1), required=True, help="Length of the job [h].")
@click.option("--slack-hours", type=click.IntRange(0), required=True, help="How long it may wait [h].")
@click.option("--json", "json_path", type=NewFile(), help="Write the numbers here.")
def oracle(
    carbon: Path, column: str | None, time_column: str, job_hours: int, slack_hours: int, json_path: Path | None
) -> None:
    """Show the most that shifting could save for one job length, over every start hour of a history."""
    from embellie.simulation.whatif.carbon_file import make_axis
    from embellie.simulation.whatif.oracle import oracle as compute

    with readable(ValueError, OSError):
        history = _read_history(carbon, column, time_column)
        hour = timedelta(hours=1)
        if history.step > hour or hour % history.step:
            raise ValueError(
                f"the oracle needs rows every hour, or as often as divides it, and {carbon.name} has one every "
                f"{history.step}"
            )
        cell = compute(make_axis(history, step=hour).values, job_hours, slack_hours)
    now, whole, split = (sums / job_hours for sums in (cell.baseline, cell.contiguous, cell.split))
    click.echo(f"a job of {job_hours} h that may wait {slack_hours} h, the mean of {cell.n_starts:,} start hours:")
    click.echo(f"  at once                    {now:.1f} g/kWh")
    click.echo(f"  in one piece, at its best  {whole:.1f} g/kWh, {cell.contiguous_saving_pct:.2f} % less")
    click.echo(f"  in pieces, at its best     {split:.1f} g/kWh, {cell.split_saving_pct:.2f} % less")
    write_json(asdict(cell), json_path)
