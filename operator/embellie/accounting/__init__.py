# SPDX-License-Identifier: Apache-2.0
"""Pure accounts: what was drawn, what it emitted, how long work waited, beside a counterfactual."""

from embellie.accounting.account import Account, Comparison, Delays, account, compare, delays
from embellie.accounting.curves import Run, ZonePower, add_curves, common_window, power_curve
from embellie.accounting.emissions import (
    AverageDirect,
    AverageLifecycle,
    Marginal,
    Signal,
    emissions,
    of_kind,
    total,
)
from embellie.accounting.heat import HeatSite, heat_record

__all__ = [
    "Account",
    "AverageDirect",
    "AverageLifecycle",
    "Comparison",
    "Delays",
    "HeatSite",
    "Marginal",
    "Run",
    "Signal",
    "ZonePower",
    "account",
    "add_curves",
    "common_window",
    "compare",
    "delays",
    "emissions",
    "heat_record",
    "of_kind",
    "power_curve",
    "total",
]
