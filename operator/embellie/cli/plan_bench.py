# SPDX-License-Identifier: Apache-2.0
"""`embellie plan bench`: how fast the planner plans, how good it proves its plan to be, and a certificate of both."""

import json
import math
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from embellie.cli.values import FiniteRange, NewFile, write, write_json

if TYPE_CHECKING:
    from embellie.planning.solving.problem import Problem

_BUDGET_S = 15.0
_RESTARTS = 10_000
"""The budget ends them, or a plan that is near enough to its bound."""


@click.command(short_help="Measure the planner, and prove its result.")
@click.option("--jobs", type=click.IntRange(0, 1_000_000), default=10_000, show_default=True, help="How many jobs.")
@click.option("--zones", type=click.IntRange(1, 64), default=4, show_default=True, help="How many zones.")
@click.option("--hours", type=click.IntRange(8, 2000), default=168, show_default=True, help="Slots of an hour.")
@click.option(
    "--load",
    type=FiniteRange(0, 10, min_open=True),
    default=0.4,
    show_default=True,
    help="GPU-hours asked for over GPU-hours there are; less where jobs are few: a zone has about 64 GPUs or more.",
)
@click.option("--future", type=FiniteRange(0, 1), default=0.0, show_default=True, help="Share of jobs released later.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Another seed gives another instance."
)
@click.option("--budget", type=FiniteRange(0.05, 3600), help=f"Seconds to use.  [default: {_BUDGET_S:g}]")
@click.option(
    "--restarts",
    type=click.IntRange(0, _RESTARTS),
    help="Instead of seconds: how often to plan anew at most. The same instance then gives the same certificate.",
)
@click.option(
    "--clock",
    type=click.Choice(["wall", "cpu"]),
    default="wall",
    show_default=True,
    help="Which seconds: wall time, or processor time where others use the machine too.",
)
@click.option(
    "--instance",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An instance (JSON as in a certificate) instead of a random one.",
)
@click.option("--certificate", type=NewFile(), help="Write instance, prices and plan.")
@click.option("--json", "out", type=NewFile(), help="Write the numbers as JSON.")
def bench(
    jobs: int,
    zones: int,
    hours: int,
    load: float,
    future: float,
    seed: int,
    budget: float | None,
    restarts: int | None,
    clock: str,
    instance: Path | None,
    certificate: Path | None,
    out: Path | None,
) -> None:
    """Plan a synthetic instance (or one from a file) and prove how good the plan is."""
    # numpy and the planner are loaded here, so that every other verb answers without them.
    from embellie.planning.solving.audit import violations
    from embellie.planning.solving.certificate import certificate_to_dict
    from embellie.planning.solving.instances import random_instance
    from embellie.planning.solving.solver import Effort, solve

    if budget is not None and restarts is not None:
        raise click.UsageError("give --budget or --restarts: what the time ends is not always the same plan")
    if instance is not None:
        problem = _read(instance)
    else:
        problem = random_instance(jobs=jobs, zones=zones, hours=hours, load=load, future=future, seed=seed)
    seconds = time.process_time if clock == "cpu" else time.monotonic
    solution = (
        solve(problem, budget_s=math.inf, clock=seconds, effort=Effort(restarts=restarts))
        if restarts is not None
        else solve(problem, budget_s=budget or _BUDGET_S, clock=seconds, effort=Effort(restarts=_RESTARTS))
    )
    found = {
        "jobs": problem.jobs.count,
        "zones": problem.n_zones,
        "hours": float(problem.edges_h[-1]),
        "greedy_seconds": round(solution.first_seconds, 3),
        "greedy_gap": _gap(solution.first_objective, solution.lower_bound),
        "seconds": round(solution.seconds, 3),
        "gap": _gap(solution.objective, solution.lower_bound),
        "objective": solution.objective,
        "lower_bound": solution.lower_bound,
        "unplaced": solution.unplaced,
        "fifo_unplaced": _fifo_unplaced(problem),
        "violations": violations(problem, solution),
        "iterations": solution.iterations,
        "restarts": solution.restarts,
        "stage": solution.stage.name.lower(),
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    if certificate is not None:
        write(json.dumps(certificate_to_dict(problem, solution)), certificate)
    write_json(found, out)
    click.echo(json.dumps(found, indent=2))


def _gap(value: float, bound: float) -> float | None:
    """Return (value - bound) / |bound|; None where the bound is 0 and the value is not."""
    if value <= bound:
        return 0.0
    return (value - bound) / abs(bound) if bound else None


def _read(path: Path) -> "Problem":
    from embellie.planning.solving.certificate import instance_from_dict

    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise click.ClickException(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(data, dict):
        raise click.ClickException(f"{path} must be an instance or a certificate, as --certificate writes it")
    try:
        return instance_from_dict(data.get("instance", data))
    except ValueError as error:
        raise click.ClickException(f"{path}: {error}") from error


def _fifo_unplaced(problem: "Problem") -> int:
    """Return how many jobs first come, first served without pauses leaves without a place."""
    from embellie.planning.solving.fifo import first_come
    from embellie.planning.solving.options import Compiled
    from embellie.planning.solving.place import Placer

    _, places = first_come(Placer(Compiled(problem)))
    return sum(place is None for place in places)
