# SPDX-License-Identifier: Apache-2.0
"""`embellie forecast ZONE`: how clean the next 96 hours are, and how sure that is. Needs no cluster and no network."""

from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

import click

from embellie.cli.forecast_plot import draw, save_png
from embellie.cli.values import NewFile, readable, write_json, written

if TYPE_CHECKING:
    from embellie_forecast.clock import ForecastClock
    from embellie_forecast.exchange import ForecastDocument
    from embellie_forecast.zones import Zone

DEFAULT_DIRECTORY = Path("/var/lib/embellie")
PIPED_WIDTH = 110


@click.command()
@click.argument("zone")
@click.option("--png", type=NewFile(), help="Draw the forecast into this PNG file.")
@click.option("--json", "json_path", type=NewFile(allow_dash=True),
              help="Write the forecast to this file in the exchange format; - is the terminal.")  # fmt: skip
@click.option("--dir", "directory", type=click.Path(path_type=Path, file_okay=False), default=DEFAULT_DIRECTORY,
              show_default=True, help="Where a forecaster serves its forecasts.")  # fmt: skip
@click.option("--source", help="A live feed, as in eia:area=CISO, neso, eco2mix or bundle:area=FR,path=/data.")
@click.option("--cross-check", help="A second feed of the same grid that the first must agree with.")
@click.option("--weather", type=click.Choice(["openmeteo"]), help="Ask this service for the weather.")
@click.option("--utc", is_flag=True, help="Write times in UTC instead of this machine's zone.")
@click.option("--clock", default="system", envvar="EMBELLIE_CLOCK", hidden=True, help="A replayed clock.")
def forecast(
    zone: str,
    png: Path | None,
    json_path: Path | None,
    directory: Path,
    source: str | None,
    cross_check: str | None,
    weather: str | None,
    utc: bool,
    clock: str,
) -> None:
    """Show how clean electricity will be over the next 96 hours.

    ZONE is a GridZone that a forecaster serves, or a grid region such as US-CISO. Without a feed the answer comes from
    the data that the product carries; the rung says how much to trust it.
    """
    from embellie_forecast.clock import parse_clock

    with readable(ValueError):
        ticking = parse_clock(clock)
        document = None if source else _served(zone, directory, ticking)
        document = document or _issued(zone, directory, ticking, source, cross_check, weather)
    show = UTC if utc else None
    if png is not None:
        with written(png):
            save_png(document, png, zone=show)
    write_json(document.to_json(), json_path)
    if str(json_path) != "-":
        _print(document, utc=utc)


def _print(document: "ForecastDocument", *, utc: bool) -> None:
    from rich.console import Console

    console = Console()
    width = console.width if console.is_terminal else PIPED_WIDTH
    Console(width=width, highlight=False).print(draw(document, width=width, zone=UTC if utc else None), soft_wrap=True)


def _served(zone: str, directory: Path, clock: "ForecastClock") -> "ForecastDocument | None":
    """Return the newest forecast that a forecaster has left for the zone, if it still covers this hour."""
    from embellie_forecast.exchange import Rung, newest_document

    # A name with a slash is no zone, and must not become a path.
    if "/" in zone or zone.startswith("."):
        return None
    now = clock.now()
    found = newest_document(directory, zone, rungs=frozenset(Rung), not_after=now)
    if found is None or now >= found.start + found.step * found.carbon_mean_g_per_kwh.size:
        return None
    return found


def _issued(
    name: str, directory: Path, clock: "ForecastClock", source: str | None, cross_check: str | None, weather: str | None
) -> "ForecastDocument":
    """Return a forecast made here and now."""
    from embellie_forecast.cli import wait_patiently
    from embellie_forecast.folders import cache_folder
    from embellie_forecast.history_files import carried_zones
    from embellie_forecast.near_names import did_you_mean
    from embellie_forecast.service import make_ladder
    from embellie_forecast.sources.catalogue import SourceSpec, parse_spec

    wait_patiently()
    zone = _zone(name, directory)
    zone = replace(
        zone,
        primary=parse_spec(source) if source else zone.primary,
        cross_check=parse_spec(cross_check) if cross_check else zone.cross_check,
        weather=SourceSpec(kind=weather) if weather else zone.weather,
    )
    if zone.primary is None and zone.grid_region not in carried_zones():
        hint = did_you_mean(name, (*carried_zones(), *(each.name for each in _known(directory))))
        raise click.ClickException(
            f"nothing is known about {name!r}{hint}: name a zone that a forecaster serves in {directory}, a grid "
            f"region whose data is carried ({', '.join(carried_zones())}), or a feed with --source"
        )
    # At one moment throughout, so that the feeds are asked once.
    ladder, now = make_ladder(clock, cache_folder()), clock.now()
    if ladder.needs_training(zone, now):
        click.echo("Training the model of this grid, once; it takes about a minute.", err=True)
    ladder.prepare(zone, now)
    return ladder.issue(zone, now, directory).document


def _zone(name: str, directory: Path) -> "Zone":
    """Return the zone as the operator told it to the forecaster, else a grid region of that name."""
    from embellie_forecast.zones import Zone

    found = next((zone for zone in _known(directory) if zone.name == name), None)
    return found or Zone(name=name.lower(), grid_region=name)


def _known(directory: Path) -> "list[Zone]":
    """Return the zones that the operator told the forecaster of."""
    from embellie_forecast.exchange import ExchangeError
    from embellie_forecast.zones import read_zones

    try:
        return read_zones(directory)[0]
    except ExchangeError:
        return []
