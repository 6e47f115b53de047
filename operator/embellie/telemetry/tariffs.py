# SPDX-License-Identifier: Apache-2.0
"""What electricity costs, hour by hour, from files: `DIR/prices/ZONE.csv` (docs/reports.md).

Two columns: `timestamp_utc`, and a price whose name holds the currency (ISO 4217), such as `price_eur_per_mwh`. Hours
to come may be in it, as day-ahead markets publish them. Prices below zero are prices.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.telemetry.zone_files import ZoneFileError, ZoneFolder, number, read_table, slot_of

COLUMN = re.compile(r"price_([a-z]{3})_per_mwh")
MOST_PER_MWH = 1e6
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariffs:
    """A zone's prices: slot start -> price [currency/MWh]. Holes are absent, never zero."""

    currency: str
    step: timedelta
    values: Mapping[datetime, float]
    source: str

    def at(self, moment: datetime) -> float | None:
        """Return the price of the slot that holds an instant."""
        return self.values.get(slot_of(moment, self.step))

    def ahead(self, start: datetime, step: timedelta, slots: int) -> FloatArray | None:
        """Return the prices of slots to come, shape (slots,); None where the first is not known.

        A slot that no market has priced yet counts as the same hour of the day before.
        """
        found = np.full(slots, np.nan)
        back = max(1, round(DAY / step))
        for k in range(slots):
            value = self.at(start + (k + 0.5) * step)
            if value is None and k >= back:
                value = float(found[k - back])
            if value is None:
                return None
            found[k] = value
        return found


def read_tariffs(path: Path) -> Tariffs:
    """Read a series; raises ZoneFileError for a file that is none, or holds two currencies."""
    hint = "one price such as price_eur_per_mwh"
    table = read_table(path, lambda fields: any(map(COLUMN.fullmatch, fields)), hint)
    names = sorted(filter(COLUMN.fullmatch, table.fields))
    if len(names) > 1:
        raise ZoneFileError(f"{path}: prices in more than one currency ({', '.join(names)}); keep one of them")
    values = {}
    for moment, row in table.rows:
        price = number(row.get(names[0]), -MOST_PER_MWH, MOST_PER_MWH)
        if price is not None:
            values[moment] = price
    return Tariffs(currency=names[0][6:9].upper(), step=table.step, values=values, source=path.name)


class TariffFolder(ZoneFolder[Tariffs]):
    """The prices of all zones."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, read_tariffs, "electricity price")

    def currencies(self) -> frozenset[str]:
        """Return the currencies of all files that can be read."""
        try:
            zones = sorted(path.stem for path in self.folder.iterdir() if path.suffix == ".csv")
        except OSError:
            return frozenset()
        return frozenset(found.currency for zone in zones if (found := self.of(zone)) is not None)
