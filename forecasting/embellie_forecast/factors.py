# SPDX-License-Identifier: Apache-2.0
"""Emission factors, and what follows from generation: carbon intensity and renewable share.

Sources: IPCC AR5 WG III (2014) Annex III, medians, life cycle, as used by Electricity Maps and CarbonCast; oil from the
UK POST note 383; direct factors from EIA (2020) and BEIS (2021).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float64]

SOURCES = ("coal", "natgas", "oil", "nuclear", "hydro", "wind", "solar", "biomass", "geothermal", "other")
MIX_COLUMNS = {f"gen_{source}_mw": source for source in SOURCES}
"""Columns of generation [MW] in frames of readings, and what each tells."""
RENEWABLE_SOURCES = frozenset({"hydro", "wind", "solar", "biomass", "geothermal"})


class Scope(StrEnum):
    """What is counted per kilowatt-hour. The values are the forecast contract's signal kinds."""

    LIFECYCLE = "AverageLifecycle"
    DIRECT = "AverageDirect"


@dataclass(frozen=True, slots=True, kw_only=True)
class FactorSet:
    """A named, versioned table of emission factors [g/kWh]."""

    name: str
    scope: Scope
    grams_per_kwh: Mapping[str, float]


LIFECYCLE_AR5 = FactorSet(
    name="ar5-2014-lifecycle",
    scope=Scope.LIFECYCLE,
    grams_per_kwh={
        "coal": 820.0,
        "natgas": 490.0,
        "oil": 650.0,
        "nuclear": 12.0,
        "hydro": 24.0,
        "wind": 11.0,
        "solar": 45.0,
        "biomass": 230.0,
        "geothermal": 38.0,
        "other": 700.0,
    },
)
DIRECT_EIA = FactorSet(
    name="eia-2020-direct",
    scope=Scope.DIRECT,
    grams_per_kwh={
        "coal": 760.0,
        "natgas": 370.0,
        "oil": 406.0,
        "nuclear": 0.0,
        "hydro": 0.0,
        "wind": 0.0,
        "solar": 0.0,
        "biomass": 0.0,
        "geothermal": 0.0,
        "other": 575.0,
    },
)


def carbon_intensity_g_per_kwh(generation_mw: Mapping[str, FloatArray], factors: FactorSet) -> FloatArray:
    """Return the production-based average carbon intensity [g/kWh]; NaN where nothing was generated or reported.

    >>> carbon_intensity_g_per_kwh({"coal": np.array([1.0]), "wind": np.array([1.0])}, LIFECYCLE_AR5)
    array([415.5])
    """
    grams = sum((values * factors.grams_per_kwh[name] for name, values in generation_mw.items()), start=np.zeros(1))
    return _per_total(grams, generation_mw)


def renewable_share(generation_mw: Mapping[str, FloatArray]) -> FloatArray:
    """Return the share of hydro, wind, solar, biomass and geothermal in generation (0..1); NaN where unknown.

    >>> renewable_share({"coal": np.array([3.0]), "wind": np.array([1.0])})
    array([0.25])
    """
    part = (values for name, values in generation_mw.items() if name in RENEWABLE_SOURCES)
    return _per_total(sum(part, start=np.zeros(1)), generation_mw)


def _per_total(amount: FloatArray, generation_mw: Mapping[str, FloatArray]) -> FloatArray:
    total = sum(generation_mw.values(), start=np.zeros(1))
    safe = np.where(total > 0.0, total, np.nan)
    return np.asarray(amount / safe, dtype=np.float64)
