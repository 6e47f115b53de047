# SPDX-License-Identifier: Apache-2.0
"""`embellie model`: train a zone's forecast model, and read the card of the one in use."""

import json
from pathlib import Path
from typing import Any

import click

from embellie.cli.session import ReadableGroup


@click.group(name="model", cls=ReadableGroup)
def model_group() -> None:
    """Train forecast models and read their cards."""


def _folder(command: Any) -> Any:
    return click.option(
        "--models", type=click.Path(path_type=Path, file_okay=False), envvar="EMBELLIE_MODELS",
        help="Folder of the models; default: $EMBELLIE_MODELS, else models in $EMBELLIE_CACHE or the user's cache.",
    )(command)  # fmt: skip


@model_group.command(short_help="Show what a zone's model knows.")
@click.argument("zone")
@click.option("--json", "as_json", is_flag=True, help="Print the card as JSON.")
@_folder
def card(zone: str, as_json: bool, models: Path | None) -> None:
    """Show what the model of ZONE was trained on, what it looks at, and how well it did."""
    from embellie_forecast.registry import Registry, RegistryError

    try:
        found = Registry(models).card(zone)
    except RegistryError as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps(found, indent=2) if as_json else card_text(found))


@model_group.command(short_help="Train a model for a zone.")
@click.argument("zone")
@click.option("--file", type=click.Path(path_type=Path, dir_okay=False),
              help="The zone's history, CSV or Parquet; default: the data that the product carries.")  # fmt: skip
@click.option("--replace", is_flag=True, help="Store the new model even if the old one did better on recent days.")
@_folder
def train(zone: str, file: Path | None, replace: bool, models: Path | None) -> None:
    """Train a model for ZONE; it replaces a stored one only if it did better on recent days."""
    from embellie_forecast.history import HistoryError, instant_of
    from embellie_forecast.history_files import carried_zones, load_carried, read_history
    from embellie_forecast.models import Target, TooLittleDataError, train_calendar, train_zone
    from embellie_forecast.registry import Registry, RegistryError

    registry = Registry(models)
    try:
        # Before the minute that a training takes.
        registry.file_of(zone)
        history = read_history(file, zone) if file else load_carried(zone)
        until = instant_of(history.end_hour)
        source = {"name": str(file.name) if file else "carried data (EIA-930, NOAA GFS)",
                  "licence": "as stated by its owner" if file else "US public domain"}  # fmt: skip
        model = train_zone(history, until=until, data_sources=(source,))
        if not {Target.LIFECYCLE, Target.DIRECT}.intersection(model.targets):
            only = " and ".join(target.value.replace("_", " ") for target in model.targets)
            raise HistoryError(f"{file} tells {only} only, and forecasts stand on ci_lifecycle_g_per_kwh, "
                               "ci_direct_g_per_kwh or gen_<source>_mw")  # fmt: skip
        calendar = train_calendar(history, until=until)
        if replace:
            registry.save(model, calendar)
            stored = True
        else:
            stored = registry.offer(model, history, at=until, calendar=calendar)
    except RegistryError as error:
        raise click.ClickException(str(error)) from error
    except (HistoryError, TooLittleDataError) as error:
        how = "" if file or zone in carried_zones() else "; name a file of its history with --file"
        raise click.ClickException(f"{error}{how}") from error
    except OSError as error:
        raise click.ClickException(f"the model cannot be stored: {error}; the old one, if any, stays") from error
    click.echo(f"{model.model_id}: {'stored' if stored else 'not stored, the model in use did better on recent days'}")
    for note in history.notes:
        click.echo(f"  {note}")


def card_text(found: dict[str, Any]) -> str:
    """Return a card for people."""
    data = found["trained_on"]
    sources = "; ".join(f"{s.get('name')} ({s.get('licence')})" for s in data["sources"]) or "not stated"
    lines = [
        f"{found['zone']}: {found['model_id']}",
        f"  what it is    {found['family']}",
        f"  trained on    {data['first_hour']} until {data['until']}",
        f"  hours         {data['hours']}, {data['hours_not_believed']} of them not believed",
        f"  data          {sources}; sha256 {data['sha256'][:16]}",
        f"  looks at      {', '.join(found['looks_at'])}; weather: {found['weather']}",
        f"  code          embellie {found['code_version']}, scikit-learn {found['scikit_learn']}",
    ]
    for target, scores in found["targets"].items():
        lines.append(
            f"  {target}: {scores['issues']} past issues that it had not seen, error in {scores['error_unit']}"
        )
        for label, key in (("day 1 to 4", "error_by_day"), ("persistence", "persistence_error_by_day"),
                           ("80 % range", "coverage80_percent_by_day")):  # fmt: skip
            lines.append(f"    {label:12}" + "".join(f"{'-' if v is None else f'{v:.2f}':>8}" for v in scores[key]))
    return "\n".join(lines)
