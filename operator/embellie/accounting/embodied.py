# SPDX-License-Identifier: Apache-2.0
"""Embodied carbon by reserved GPU-time: what was emitted to make the hardware, spread over the hours that it serves.

A GPU-hour carries (GPU + host / GPUs per host) / (lifetime x utilisation), after Luccioni, Viguier and Ligozat,
"Estimating the Carbon Footprint of BLOOM", JMLR 24 (2023). Hours in which a GPU is reserved and idle carry as much as
any other.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

HOURS_PER_YEAR = 8760.0
_COLUMNS = ("match", "gpu_kg", "host_kg", "gpus_per_host", "lifetime_years", "utilisation", "quality", "source")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """One line of the table."""

    match: str
    gpu_kg: float
    host_kg: float
    gpus_per_host: int
    lifetime_years: float
    utilisation: float
    quality: str
    source: str

    @property
    def g_per_gpu_hour(self) -> float:
        """Embodied carbon of one reserved GPU-hour [g CO2e]."""
        served = self.lifetime_years * HOURS_PER_YEAR * self.utilisation
        return 1000.0 * (self.gpu_kg + self.host_kg / self.gpus_per_host) / served


@lru_cache(maxsize=1)
def carried_hardware() -> tuple[Hardware, ...]:
    """Return the table that is carried; raises ValueError naming line and field."""
    text = (resources.files("embellie.accounting") / "data" / "hardware.csv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    reader = csv.DictReader(io.StringIO("\n".join(lines)))
    missing = set(_COLUMNS) - set(reader.fieldnames or ())
    if missing:
        raise ValueError(f"the hardware table has no column {', '.join(sorted(missing))}")
    return tuple(_row(row, number) for number, row in enumerate(reader, start=1))


def _row(row: dict[str, str], number: int) -> Hardware:
    try:
        found = Hardware(
            match=row["match"],
            gpu_kg=float(row["gpu_kg"]),
            host_kg=float(row["host_kg"]),
            gpus_per_host=int(row["gpus_per_host"]),
            lifetime_years=float(row["lifetime_years"]),
            utilisation=float(row["utilisation"]),
            quality=row["quality"],
            source=row["source"],
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"entry {number} of the hardware table cannot be read: {error}") from error
    if not (found.gpu_kg >= 0 and found.host_kg >= 0 and found.gpus_per_host > 0 and found.lifetime_years > 0):
        raise ValueError(
            f"entry {number} of the hardware table: masses must not be negative, counts and years above zero"
        )
    if not 0 < found.utilisation <= 1:
        raise ValueError(f"entry {number} of the hardware table: utilisation must lie above 0 and up to 1")
    return found


def hardware_for(product: str, table: Sequence[Hardware] | None = None) -> Hardware:
    """Return the line for a GPU product as its node label names it; the line `*` where there is none.

    >>> hardware_for("NVIDIA-H100-80GB-HBM3").match, hardware_for("something new").match
    ('H100', '*')
    """
    rows = carried_hardware() if table is None else table
    named = [row for row in rows if row.match != "*" and row.match.lower() in product.lower()]
    return max(named, key=lambda row: len(row.match)) if named else next(row for row in rows if row.match == "*")
