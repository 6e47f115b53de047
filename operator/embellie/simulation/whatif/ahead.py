# SPDX-License-Identifier: Apache-2.0
"""What is expected of the carbon intensity: what an outlook tells, and beyond it what hours of the day were like."""

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.simulation.whatif.axis import Axis
from embellie.simulation.whatif.outlook import Outlook

_CLIMATE_DAYS = 14
_BEYOND_H = 24.0
_WEATHER_H = 24.0
"""How long the last known hours' distance from their usual value lasts: weather passes in about a day."""
_LAST_HOURS = 6.0
_MOST_OF_SPREAD, _MOST_WHEN_FULL = 0.01, 0.05
"""An hour's wait costs at most so much of how far hours lie apart (their standard deviation): where they differ by a
few percent, hardly anything would be worth its wait otherwise. The first holds where nobody waits for GPUs, the second
where slack has run out: the fuller the cluster, the more often what waits is in the way of work that nobody knew of."""
_LEAST_OF_SHARE = 1e-3
"""It costs at least this part of what is asked: on a flat grid sums differ by their rounding, which is no saving."""


class Ahead:
    """The expected intensity of the next slots, and the site's own power."""

    def __init__(
        self, axis: Axis, outlook: Outlook, *, horizon_h: float, past: FloatArray, own: Outlook | None = None
    ) -> None:
        """Prepare.

        Args:
            axis: The replay's slots.
            outlook: What is known of the intensity.
            horizon_h: How far ahead the outlook may be used [h].
            past: Intensity before the replay begins, newest last.
            own: What is known of the site's own power, if it has any.
        """
        self._axis, self._outlook, self._own = axis, outlook, own
        self._known = max(1, round(horizon_h / axis.slot_h))
        self._beyond = max(1, round(_BEYOND_H / axis.slot_h))
        self._day = max(1, round(24.0 / axis.slot_h))
        self._history = np.concatenate((past, axis.values))
        self._past = past.size

    @property
    def slots(self) -> int:
        """How many slots are looked ahead."""
        return self._known + self._beyond

    def wait_price(self, share: float, slack_taken: float = 0.5) -> float:
        """Return what an hour's wait must save: a share of the mean intensity, where hours are much alike less [g/kWh].

        Both are of the time before the replay; without any, of its first hours, which no forecast may know yet.

        Args:
            share: Of the mean.
            slack_taken: How near slack is to its end, 0 to 1 (`planning.slack`); half where no capacity is known.
        """
        seen = self._history[: self._past or self._known]
        most = share * float(seen.mean())
        of_spread = _MOST_OF_SPREAD + slack_taken * (_MOST_WHEN_FULL - _MOST_OF_SPREAD)
        return max(_LEAST_OF_SHARE * most, min(most, of_spread * float(seen.std())))

    def costs(self, slot: int) -> FloatArray:
        """Return what is expected of a slot and the next ones, shape (slots,) [g/kWh]."""
        known = self._outlook.ahead(slot, self._known)
        return np.concatenate((known, self._climate(slot, known)))

    def own_kw(self, slot: int) -> FloatArray | None:
        """Return what the site's own plants are expected to deliver in a slot and the next ones, shape (slots,).

        Beyond the horizon nothing is counted on. None: it has none.
        """
        if self._own is None:
            return None
        return np.concatenate((self._own.ahead(slot, self._known), np.zeros(self._beyond)))

    def _climate(self, slot: int, known: FloatArray) -> FloatArray:
        """Return what is expected beyond the horizon.

        The mean of the same hours of the last days, and how far the last known hours lie from it, fading.
        """
        now = self._past + slot
        seen = np.concatenate((self._history[max(0, now - _CLIMATE_DAYS * self._day) : now], known))
        ahead = np.arange(self._beyond)
        days = seen.size // self._day
        if days < 1:
            return np.full(self._beyond, float(seen.mean()))
        profile = seen[seen.size - days * self._day :].reshape(days, self._day).mean(axis=0)
        last = min(known.size, max(1, round(_LAST_HOURS / self._axis.slot_h)))
        distance = float((known[-last:] - profile[np.arange(-last, 0) % self._day]).mean())
        fading = np.exp(-(ahead + 1) * self._axis.slot_h / _WEATHER_H)
        expected: FloatArray = np.maximum(0.0, profile[ahead % self._day] + distance * fading)
        return expected
