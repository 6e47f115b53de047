# SPDX-License-Identifier: Apache-2.0
"""The carbon intensity that really was, hour by hour, from files: `DIR/intensity/ZONE.csv` (docs/reports.md).

Whoever knows it writes it: the forecaster, a cron job, a person. Columns: `timestamp_utc`, and one or more of
`ci_lifecycle_g_per_kwh`, `ci_direct_g_per_kwh` and `ci_marginal_g_per_kwh`, and `estimated` (1 where the source filled
a hole itself). The kind of signal is in the column's name, so that no kind can be taken for another.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median

from embellie.domain.reasons import SignalKind
from embellie.telemetry.zone_files import ZoneFileError, ZoneFolder, number, read_table, slot_of

COLUMNS = {
    "ci_lifecycle_g_per_kwh": SignalKind.AVERAGE_LIFECYCLE,
    "ci_direct_g_per_kwh": SignalKind.AVERAGE_DIRECT,
    "ci_marginal_g_per_kwh": SignalKind.MARGINAL,
}
MOST_G_PER_KWH = 3000.0
LEAST_LIFECYCLE_G_PER_KWH = 2.0
"""No source's life cycle has so little: a median below it is told in another unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One slot's intensity."""

    g_per_kwh: float
    estimated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Intensity:
    """A zone's series: slot start -> value, by kind of signal. Holes are absent, never zero."""

    step: timedelta
    values: Mapping[SignalKind, Mapping[datetime, Known]]
    source: str

    def at(self, kind: SignalKind, moment: datetime) -> Known | None:
        """Return the value of the slot that holds an instant."""
        return self.values.get(kind, {}).get(slot_of(moment, self.step))


def read_intensity(path: Path) -> Intensity:
    """Read a series; raises ZoneFileError for a file that is none.

    Values that no grid has (negative, above 3000, not a number) are holes.
    """
    table = read_table(path, lambda fields: bool(fields & COLUMNS.keys()), f"one of {', '.join(COLUMNS)}")
    values: dict[SignalKind, dict[datetime, Known]] = {COLUMNS[name]: {} for name in COLUMNS if name in table.fields}
    for moment, row in table.rows:
        estimated = (row.get("estimated") or "0").strip() == "1"
        for name, kind in COLUMNS.items():
            g_per_kwh = number(row.get(name), 0.0, MOST_G_PER_KWH)
            if g_per_kwh is not None:
                # A later row of the same hour is its correction.
                values[kind][moment] = Known(g_per_kwh=g_per_kwh, estimated=estimated)
    found = [known.g_per_kwh for known in values.get(SignalKind.AVERAGE_LIFECYCLE, {}).values()]
    if found and (usual := median(found)) < LEAST_LIFECYCLE_G_PER_KWH:
        raise ZoneFileError(
            f"{path}: ci_lifecycle_g_per_kwh has a median of {usual:.2g} g/kWh, less than any grid: is it in kg/kWh?"
        )
    return Intensity(step=table.step, values=values, source=path.name)


class IntensityFolder(ZoneFolder[Intensity]):
    """The intensities of all zones."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, read_intensity, "carbon intensity")
