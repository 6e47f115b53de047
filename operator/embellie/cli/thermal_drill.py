# SPDX-License-Identifier: Apache-2.0
"""`embellie thermal drill`: let things go wrong in a simulated machine room and count what the operator lets happen."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from embellie.cli.values import NewFile, readable, write_json

if TYPE_CHECKING:
    from embellie.simulation.drill.run import Outcome, Result


@click.command("drill", short_help="Let something go wrong in a simulated room.")
@click.option("--scenario", "scenarios", multiple=True, required=True, metavar="NAME|all", help="Which; repeatable.")
@click.option("--seed", "seeds", multiple=True, type=click.IntRange(0, 2**31), default=(0,), help="Repeatable.")
@click.option(
    "--policy",
    type=click.Choice(["embellie", "off", "threshold"]),
    default="embellie",
    show_default=True,
    help="Who decides: the operator, nobody, or thresholds on readings.",
)
@click.option(
    "--plant",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="JSON or YAML with another room (docs/drills.md).",
)
@click.option("--json", "json_file", type=NewFile(), help="Write the numbers here.")
def drill(
    scenarios: tuple[str, ...], seeds: tuple[int, ...], policy: str, plant: Path | None, json_file: Path | None
) -> None:
    """Run the operator's own code on a simulated machine room while things go wrong.

    Nothing is touched: no cluster and no network are needed. The room's physics are not the operator's models.
    """
    from embellie.simulation.drill.run import run_drills
    from embellie.simulation.drill.scenarios import NAMES, SCENARIOS
    from embellie.simulation.plant import PlantError, PlantSpec, read_plant

    names = tuple(dict.fromkeys(SCENARIOS if "all" in scenarios else scenarios))
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is not one of {', '.join(NAMES)}, all", param_hint="'--scenario'")
    with readable(PlantError):
        room = read_plant(plant) if plant is not None else PlantSpec()
    results = []
    click.echo(_HEADER)
    for name in names:
        # One after the other: each line comes as soon as it is known.
        for outcome in run_drills([name], seeds, policy, room):
            results.append(outcome.result)
            click.echo(_line(outcome))
    write_json([result.as_json() for result in results], json_file)
    caused = sum(result.violations_caused for result in results)
    total = sum(result.violations_total for result in results)
    click.echo(
        f"{len(results)} drill{'' if len(results) == 1 else 's'} under {policy}: {total} times over a hard limit, "
        f"{caused} of them caused by starts that no bound forced."
    )
    click.echo(_LEGEND)


_COLUMNS = (
    ("scenario", 18),
    ("seed", 5),
    ("over", 5),
    ("forced", 7),
    ("caused", 7),
    ("minutes", 8),
    ("margin K", 9),
    ("used", 7),
    ("oracle", 7),
    ("means", 7),
    ("N+1", 7),
    ("both", 7),
    ("blocked", 8),
    ("pauses", 7),
    ("lost GPU h", 11),
    ("caps", 5),
    ("flaps", 6),
    ("heat kWh", 9),
)
_HEADER = "".join(name.ljust(width) if k == 0 else name.rjust(width) for k, (name, width) in enumerate(_COLUMNS))


_LEGEND = """
over      times that the truth (not a reading) stood over a hard limit
forced    of those, by starts that only a promised latest start forced
caused    of those, by our other starts
minutes   time over hard limits [min]
margin K  how near a temperature came to its hard limit [K]; negative: over it
used      useful GPU-hours, of those of the room
oracle    the same for one who knows the room, the weather and the jobs, needs no reserve, and pauses at no cost
means     the same for one who pauses only what the operator may, at the same cost
N+1       the same for one who pauses anything for nothing, and keeps the operator's reserve and margins
both      the same for one who does both
blocked   jobs that a limit kept waiting at least once
pauses, caps, flaps   pauses ordered, power caps changed, measures taken again within 15 min of being lifted
lost GPU h, heat kWh  GPU-hours that pauses and caps cost, heat that the heat network got
More in docs/drills.md."""


def _line(outcome: "Outcome") -> str:
    r: Result = outcome.result
    values = (
        r.scenario,
        str(r.seed),
        str(r.violations_total),
        str(r.violations_forced),
        str(r.violations_caused),
        f"{r.violation_minutes:.0f}",
        f"{r.worst_margin_c:.1f}",
        f"{100 * r.utilisation:.1f}%",
        f"{100 * r.utilisation_oracle:.1f}%",
        *(
            f"{100 * used:.1f}%" if used else "-"
            for used in (
                outcome.utilisation_own_means,
                outcome.utilisation_reserved,
                outcome.utilisation_own_means_reserved,
            )
        ),
        str(r.starts_blocked),
        str(r.pauses),
        f"{r.lost_gpu_hours:.1f}",
        str(r.caps),
        str(r.flaps),
        f"{r.heat_delivered_kwh:.0f}",
    )
    widths = [width for _, width in _COLUMNS]
    cells = [v.ljust(w) if k == 0 else v.rjust(w) for k, (v, w) in enumerate(zip(values, widths, strict=True))]
    return "".join(cells)
