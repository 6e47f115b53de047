# SPDX-License-Identifier: Apache-2.0
"""The footprint of one piece of work as a paper states it; pure.

Shares after Luccioni, Viguier and Ligozat, "Estimating the Carbon Footprint of BLOOM", JMLR 24 (2023): dynamic energy
of the work, idle energy of what it kept ready, and embodied carbon by reserved GPU-time; here the building's overhead
comes to both kinds of energy.
"""

import math
from dataclasses import dataclass

from embellie.accounting.interval import METHOD as ACCOUNTS_METHOD
from embellie.domain.reasons import SignalKind

METHOD = "embellie-card/2"
"""By which a card's interval is made out of accounts, whatever made those."""
ENERGY_MEASURED, ENERGY_ESTIMATED, INTENSITY, EMBODIED = 0.03, 0.50, 0.10, 0.50
"""Relative uncertainties (90 %): metered and assumed energy, a grid's published intensity, a table's embodied mass."""
EDGES_S = 15.0
"""How far off work's ends are on its meters (90 %): samples are a minute apart, and up to half a minute old [s]."""


def energy_uncertainty(estimated_share: float, hours: float) -> tuple[float, float]:
    """Return relative uncertainties (90 %): of all energy as it was read, and of the dynamic one for work's ends.

    Args:
        estimated_share: Which share of the energy was assumed, not metered.
        hours: How long the work ran.
    """
    edges = min(1.0, EDGES_S / 3600.0 / hours) if hours > 0.0 else 1.0
    return ENERGY_MEASURED + (ENERGY_ESTIMATED - ENERGY_MEASURED) * estimated_share, edges


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Energy and emissions of one piece of work."""

    name: str
    dynamic_kwh: float
    idle_kwh: float
    overhead_kwh: float
    estimated_kwh: float
    """How much of the energy was assumed, not metered."""
    g_per_kwh: float
    """Mean intensity, weighted with the energy."""
    embodied_g: float
    gpu_hours: float
    signal_kind: str
    hours: float = math.inf
    """How long it ran: of short work a larger part lies between two samples."""
    spared_g_per_kwh: float = 0.0
    """By how much on-site energy made the mean intensity less than the grid's."""
    accounts_method: str = ACCOUNTS_METHOD
    """By which the accounts were made."""

    @property
    def kwh(self) -> float:
        """All energy, overhead included."""
        return self.dynamic_kwh + self.idle_kwh + self.overhead_kwh

    def _with_overhead(self, kwh: float) -> float:
        it = self.dynamic_kwh + self.idle_kwh
        return kwh * self.kwh / it if it > 0.0 else 0.0

    @property
    def dynamic_g(self) -> float:
        """Emissions of the work itself [g]."""
        return self._with_overhead(self.dynamic_kwh) * self.g_per_kwh

    @property
    def idle_g(self) -> float:
        """Emissions of the idle draw of what it reserved [g]."""
        return self._with_overhead(self.idle_kwh) * self.g_per_kwh

    @property
    def total_g(self) -> float:
        """All of it [g]."""
        return self.dynamic_g + self.idle_g + self.embodied_g

    @property
    def estimated_share(self) -> float:
        """Which share of the machines' energy was assumed, not metered."""
        it_kwh = self.dynamic_kwh + self.idle_kwh
        return min(1.0, self.estimated_kwh / it_kwh) if it_kwh > 0.0 else 0.0

    @property
    def interval_g(self) -> tuple[float, float]:
        """90 % interval of the total: the parts' uncertainties, taken as independent [g]."""
        energy, edges = energy_uncertainty(self.estimated_share, self.hours)
        running = self.dynamic_g + self.idle_g
        parts = (running * energy, self.dynamic_g * edges, running * INTENSITY, self.embodied_g * EMBODIED)
        spread = sum(part**2 for part in parts) ** 0.5
        return max(0.0, self.total_g - spread), self.total_g + spread

    def line(self) -> str:
        """Return the sentence for a paper."""
        low, high = self.interval_g
        dynamic, idle, embodied = _mass(self.dynamic_g), _mass(self.idle_g), _mass(self.embodied_g)
        grid = self.g_per_kwh + self.spared_g_per_kwh
        own = f", on-site energy counted; {grid:.0f} g/kWh without it" if self.spared_g_per_kwh else ""
        guessed = f" ({100 * self.estimated_share:.0f} % of it estimated)" if self.estimated_share >= 0.01 else ""
        return (
            f"{self.name} used {_amount(self.kwh)} kWh{guessed} over {_amount(self.gpu_hours)} GPU-hours and emitted "
            f"{_mass(self.total_g)} CO2e (90 % interval {_mass(low)} to {_mass(high)}): {dynamic} dynamic, "
            f"{idle} idle, {embodied} embodied; mean carbon intensity {self.g_per_kwh:.0f} g/kWh "
            f"({SignalKind(self.signal_kind).words}, location-based{own}); methods {self.accounts_method}, {METHOD}."
        )


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _mass(grams: float) -> str:
    """Write a mass in the unit that reads well.

    >>> _mass(24_692_172), _mass(850.0)
    ('24.7 t', '850 g')
    """
    for size, unit in ((1e6, "t"), (1e3, "kg")):
        if abs(grams) >= size:
            return f"{grams / size:.3g} {unit}"
    return f"{grams:.3g} g"
