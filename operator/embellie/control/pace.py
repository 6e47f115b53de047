# SPDX-License-Identifier: Apache-2.0
"""How much a turn does, and how long what it found may stand."""

PLAN_STANDS_S = 15.0
"""While more releases are due than a turn can write, one plan serves so long; each turn shields it anew."""
PLAN_STANDS_TIMES = 8.0
"""And at least so many times as long as it took to make, or a slow machine would only plan."""
RELEASE_WITHIN_S = 2.0
"""No release is begun later after its decision; what is still due then is decided anew in the next turn, at once."""
RELEASE_AT_LEAST_S = 1.0
"""But so long a turn releases, however long it took to decide."""
WRITE_S = 3.0
"""Time for WorkloadPlans in one turn [s]."""
WRITE_OF_PERIOD = 1 / 3
"""And at most so much of the period: what a turn takes is added to how early a bound counts as reached."""
WRITE_BUSY_S = 0.2
"""The same while more releases are due or new work waits: starts come before records, which follow in later turns."""
BUSY_HOUSE_S = 6.0
"""While more releases are due than a turn can write, statuses, the switch and plans are seen to once in so long."""
FIRST_FORECAST_S = 120.0
"""So long after this process began to lead the forecaster beside it may still be at its first forecast [s]."""
DEBOUNCE_S = 0.25
"""New work is gathered for this long before a turn starts early."""
RECENT_TURNS = 30
"""So many turns tell how long one takes."""
BACKLOG_TURNS = 8
"""Bounds that come within so many turns count as the backlog."""
QUIET_TURNS = 4
"""However quiet it is, everything is decided anew after so many turns."""
