# SPDX-License-Identifier: Apache-2.0
"""What a permit for heat to the outside and an order to cut leave a zone now and in the minutes ahead. Pure.

An order to cut is contracted power that is less than what is drawn, whoever lowered it, or a GridZone's order that
holds or comes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.thermal.conflicts import reconcile
from embellie.thermal.outlook import ceiling_kw
from embellie.thermal.settings import ZoneSettings, highest_kw

CLOSE_AHEAD_S = 2700.0
"""From so long before a limit on nothing new comes in [s]."""
CAP_AHEAD_S = 1800.0
PAUSE_AHEAD_S = 1200.0
"""Time for a checkpoint, its grace, and for the heat that is stored in the loop to leave [s]."""
_STEP_S = 300.0
AHEAD_S = np.arange(0.0, CLOSE_AHEAD_S + 1.0, _STEP_S)
"""The moments from now on at which is asked what is allowed, shape (moments,) [s]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """What a permit or an order leaves a zone now and soon [kW]; infinite where nothing does."""

    close_kw: float
    """Least that is allowed at any time within `CLOSE_AHEAD_S`."""
    cap_kw: float
    pause_kw: float
    why: str = ""
    """In words."""


def share_order(allowed_kw: FloatArray, facility_kw: float, heat_kw: Mapping[str, float]) -> dict[str, FloatArray]:
    """Return the heat that contracted power leaves each zone, shared by what each makes now [kW].

    Args:
        allowed_kw: What the facility may draw at several moments, shape (moments,).
        facility_kw: What it draws, as measured.
        heat_kw: What its zones make, by name.
    """
    if facility_kw <= 0.0:
        return {}
    # All that the facility draws beside its IT follows its IT closely enough for a cut.
    return {name: kw * allowed_kw / facility_kw for name, kw in heat_kw.items()}


def duty_of(
    zone: ZoneSettings,
    now: datetime,
    outdoor_c: float,
    order_kw: FloatArray | None,
    allowed: Callable[[FloatArray, FloatArray], FloatArray],
) -> Duty | None:
    """Return what is allowed now and soon; None where neither a permit nor an order limits the zone.

    Args:
        zone: Its settings.
        now: The present.
        outdoor_c: The outdoor temperature now [degC]; NaN where nobody knows.
        order_kw: What an order to cut leaves at each of `AHEAD_S`, shape (moments,) [kW]; None without one.
        allowed: From permits for heat to the outside [kW] and temperatures there [degC] to the heat that the zone may
            make under them [kW].
    """
    permits = tuple(row for row in zone.ceiling if row.to_outside)
    if order_kw is None and not permits:
        return None
    hour = (now.hour + now.minute / 60.0 + now.second / 3600.0 + AHEAD_S / 3600.0) % 24.0
    outdoor = np.full(hour.shape, outdoor_c)
    ceiling = ceiling_kw(replace(zone, ceiling=permits), hour, outdoor, allowed)
    if order_kw is None and not np.isfinite(ceiling).any():
        return None
    ordered = np.full(AHEAD_S.shape, np.inf) if order_kw is None else order_kw
    owed = None
    if zone.delivery is not None:
        floor = float(highest_kw(zone.delivery.floor, hour[:1], outdoor[:1])[0])
        owed = floor / max(zone.delivery.capture_share, 1e-6) or None
    bands = [
        reconcile(_told(permit_kw), _told(kw), owed, zone.ladder.prefer).at_most_kw
        for permit_kw, kw in zip(ceiling, ordered, strict=True)
    ]
    most = np.array(bands)
    lowest = int(np.argmin(most))
    begins = "" if lowest == 0 else f" from {now + timedelta(seconds=float(AHEAD_S[lowest])):%H:%M} UTC on"
    who = "an order to cut"
    if np.isfinite(ceiling[lowest]) and ceiling[lowest] <= ordered[lowest]:
        who = "a permit for heat to the outside"
    return Duty(
        close_kw=float(most[lowest]),
        cap_kw=float(most[AHEAD_S <= CAP_AHEAD_S].min()),
        pause_kw=float(most[AHEAD_S <= PAUSE_AHEAD_S].min()),
        why=f"{who} leaves {most[lowest]:.0f} kW of heat{begins}",
    )


def _told(kw: float) -> float | None:
    return float(kw) if np.isfinite(kw) else None
