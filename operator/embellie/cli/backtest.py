# SPDX-License-Identifier: Apache-2.0
"""`embellie backtest FILE...`: how good would the forecasts have been, by the protocols of the published papers?"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from embellie.cli.values import NewFile, write_json
from embellie.domain.durations import parse_duration

MAX_LATENCY_HOURS = 48
CONVENTION = (
    "known at an issue: rows labelled before it{latency}; {weather}, each row taken at the hour of its label. "
    "GFS runs are really published 4 to 5 h after their label, which the papers ignore."
)
WEATHER_WORDS = {
    "none": "no weather",
    "day1": "the day-ahead weather of the first 24 h only (the papers' convention)",
    "optimistic": "OPTIMISTIC: day-ahead weather for all four days, which no real forecast of days 2 to 4 reaches",
}


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--target", type=click.Choice(["lifecycle", "direct", "renewable_share", "marginal"]),
              default="lifecycle", show_default=True, help="What is forecast.")  # fmt: skip
@click.option("--protocol", type=click.Choice(["carboncast", "ensembleci", "dacf", "rolling"]), default="rolling",
              show_default=True, help="Which issues are scored; rolling works on any file.")  # fmt: skip
@click.option("--weather", type=click.Choice(["none", "day1", "optimistic"]), default="day1", show_default=True,
              help="How much of the file's weather forecasts may be used.")  # fmt: skip
@click.option("--refit", type=click.Choice(["auto", "none"]), default="auto", show_default=True,
              help="auto fits again every week on what was known; none fits once, before the test.")  # fmt: skip
@click.option("--latency", default="0h", show_default=True, help="Withhold the last readings, as in 6h.")
@click.option("--json", "json_path", type=NewFile(allow_dash=True),
              help="Write the scores to this file; - is the terminal.")  # fmt: skip
def backtest(
    files: tuple[Path, ...], target: str, protocol: str, weather: str, refit: str, latency: str, json_path: Path | None
) -> None:
    """Score past forecasts of the grids in FILES (CSV or Parquet).

    A file has hourly rows with timestamp_utc and ci_lifecycle_g_per_kwh, ci_direct_g_per_kwh or gen_SOURCE_mw. Weather
    (wxfc_*: in each row what was forecast for its hour a day before) helps and may be missing. A file that cannot be
    scored is named with the reason, and the others go on.
    """
    from embellie_forecast.judging import Protocol, Request, judge
    from embellie_forecast.models import Target, WeatherUse

    hours = _latency_hours(latency)
    if protocol == "dacf" and target == "lifecycle":
        raise click.UsageError("the protocol dacf scores direct emissions; add --target direct")
    request = Request(
        target=Target(target),
        protocol=Protocol(protocol),
        weather=WeatherUse(weather),
        refit=refit == "auto",
        latency_hours=hours,
    )
    quiet = json_path is not None and str(json_path) == "-"
    if not quiet:
        withheld = f", the last {hours} h of them withheld (strict)" if hours else ""
        click.echo(f"{target}, protocol {protocol}, refit {refit}")
        click.echo(CONVENTION.format(latency=withheld, weather=WEATHER_WORDS[weather]))
        click.echo(head(target))
    results = []
    for file in files:
        results.append(judge(file, request))
        if not quiet:
            click.echo(line(results[-1]))
            for note in results[-1].get("notes", ()):
                click.echo(f"  {note}")
    if not quiet and any("error" not in result for result in results):
        click.echo(EXPLAINED)
    write_json(results, json_path)
    if all("error" in result for result in results):
        raise click.ClickException("no file could be scored")


def _latency_hours(text: str) -> int:
    if text.strip() in {"0", "0h", "0s"}:
        return 0
    try:
        hours = parse_duration(text).total_seconds() / 3600.0
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--latency") from error
    if hours != int(hours) or hours > MAX_LATENCY_HOURS:
        raise click.BadParameter(f"must be whole hours, at most {MAX_LATENCY_HOURS}h", param_hint="--latency")
    return int(hours)


EXPLAINED = "What the columns mean: docs/forecaster.md, How good it is."


def head(target: str) -> str:
    """Return the table's head."""
    error = f"error [{'points' if target == 'renewable_share' else '%'}], day 1 to 4"
    return (
        f"{'zone':12}{error:^28}{'persistence':^28}{'in the 80 % range [%]':^24}"
        f"{'order':>7}{'regret':>9}{'saving kept':>13}"
    )


def line(result: Mapping[str, Any]) -> str:
    """Return one file's scores as a line of text."""
    if "error" in result:
        return f"{result['file']}: {result['error']}"
    kind = "mae" if result["target"] == "renewable_share" else "mape"
    extra = "" if result["weather"] == result["weather_used"] else "  (the file has no weather)"
    return (
        f"{result['zone'][:11]:12}"
        + _cells(result, kind, 7, 2)
        + _cells(result, f"persistence_{kind}", 7, 2)
        + _cells(result, "coverage80", 6, 1)
        + _cell(result["concordance"], 7, 3)
        + _cell(result["regret_pct"], 7, 2)
        + "%"
        + _cell(result["saving_share_pct"], 12, 1)
        + "%"
        + extra
    )


def _cells(result: Mapping[str, Any], name: str, width: int, decimals: int) -> str:
    return "".join(_cell(result[f"{name}_day{day}"], width, decimals) for day in range(1, 5))


def _cell(value: float | None, width: int, decimals: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:{width}.{decimals}f}"
