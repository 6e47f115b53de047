# SPDX-License-Identifier: Apache-2.0
"""Whether a live forecast can be built on what a feed gives."""

from datetime import datetime, timedelta

import numpy as np

from embellie_forecast.documents import RungUnavailable, known_end, scope_of, series_of
from embellie_forecast.feeds import Fed
from embellie_forecast.history import hour_of, instant_of

MAX_OUTAGE = timedelta(hours=3)
"""The newest believable hour may be this much older than the feed's usual delay explains."""
MIN_KNOWN_OF_24 = 18
MAX_CONTRADICTED_HOURS = 6


def check_feed(fed: Fed, now: datetime) -> int:
    """Refuse a feed that is silent, late, full of holes or constant; return the hour after its newest believable one.

    Raises:
        RungUnavailable: It cannot be built on; the sentence says why.
    """
    history = fed.history
    if fed.contradicted_hours > MAX_CONTRADICTED_HOURS:
        # It cannot be known which of the two is wrong, and an older good forecast is safer than either.
        raise RungUnavailable(f"the second source contradicts it in {fed.contradicted_hours} of the last 24 h")
    newest = known_end(history, hour_of(now))
    said = f" ({fed.notes[0]})" if fed.notes else ""
    if newest is None:
        marginal = history.marginal_g_per_kwh is not None and np.isfinite(history.marginal_g_per_kwh).any()
        what = "tells marginal intensity only, and plans stand on averages" if marginal else "has no believable hour"
        raise RungUnavailable(f"the feed {what}{said}")
    late = instant_of(hour_of(now)) - instant_of(newest)
    if late > max(fed.usual_delay, timedelta(hours=1)) + MAX_OUTAGE:
        past = history.problems[: max(0, hour_of(now) - history.first_hour)]
        wrong = next((problem for problem in reversed(past) if problem), "")
        why = said or (f" ({wrong})" if wrong else "")
        raise RungUnavailable(f"its newest believable hour is {late / timedelta(hours=1):.0f} h old{why}")
    row = newest - history.first_hour
    recent = series_of(history, scope_of(history))[max(0, row - 24) : row]
    believed = recent[np.isfinite(recent)]
    if believed.size < MIN_KNOWN_OF_24:
        raise RungUnavailable(f"only {believed.size} of its last 24 hours can be believed{said}")
    if float(np.ptp(believed)) == 0.0:
        raise RungUnavailable("the feed has been constant for 24 hours")
    return newest
