# SPDX-License-Identifier: Apache-2.0
"""The grid's history of a replay: intensities or generation by source in a file, or a grid that the product carries."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import numpy as np

from embellie.simulation.whatif.carbon_file import LEAST_USABLE, VALUE_NAMES, CarbonHistory, parse_carbon
from embellie.simulation.whatif.tables import names_of, read_text

_COMPUTED = ("ci_lifecycle_g_per_kwh", "ci_direct_g_per_kwh")


class GridFile(click.Path):
    """A file, or the region of a grid that the product carries."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False, exists=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the file, the carried one for a region."""
        if not Path(value).exists():
            from embellie_forecast.history_files import carried_file, carried_zones
            from embellie_forecast.near_names import did_you_mean

            if value not in carried_zones():
                hint = did_you_mean(str(value), carried_zones())
                self.fail(
                    f"there is no file {value}{hint}, and carried grids are {', '.join(carried_zones())}", param, ctx
                )
            value = carried_file(value)
        return super().convert(value, param, ctx)


def read_grid(path: Path, column: str | None = None, time_column: str = "auto") -> CarbonHistory:
    """Read a history; ValueError says what cannot be used. Of generation by source the intensity is computed.

    Args:
        path: The file.
        column: The column of g/kWh; None takes the life-cycle intensity, or the only column of numbers.
        time_column: The column of times; `auto` finds it by its name.
    """
    if column and _is_source(column):
        raise ValueError(
            f"{column} is what a source gave, not g/kWh: leave --column out, and the intensity is computed"
        )
    text = read_text(path)
    names = {name.lower() for name in names_of(text)}
    is_told = names.intersection({column} if column else VALUE_NAMES)
    if column in (None, *_COMPUTED) and any(map(_is_source, names)) and not is_told:
        return _computed(path, column or _COMPUTED[0], time_column)
    return parse_carbon(text, path.name, column, time_column)


def _computed(path: Path, column: str, time_column: str) -> CarbonHistory:
    from embellie_forecast.history import instant_of
    from embellie_forecast.history_files import TIME_COLUMN, read_history

    if time_column not in ("auto", TIME_COLUMN):
        raise ValueError(f"the times of generation by source are in {TIME_COLUMN}: leave --time-column out")
    history = read_history(path)
    g_per_kwh = history.lifecycle_g_per_kwh if column == _COMPUTED[0] else history.direct_g_per_kwh
    known = np.isfinite(g_per_kwh)
    if known.mean() < LEAST_USABLE:
        raise ValueError(
            f"{path.name}: its generation by source tells {int(known.sum())} of {known.size} hours only. "
            + "; ".join(history.notes)
        )
    return CarbonHistory.bridged(
        g_per_kwh,
        column=column,
        time_column=TIME_COLUMN,
        start=instant_of(history.first_hour),
        step=timedelta(hours=1),
        told=(f"{column} was computed from its generation by source", *history.notes),
    )


def _is_source(column: str) -> bool:
    return column.startswith("gen_") and column.endswith("_mw")
