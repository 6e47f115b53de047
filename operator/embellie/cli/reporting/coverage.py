# SPDX-License-Identifier: Apache-2.0
"""How much of its inputs a figure needs."""

from datetime import timedelta

NEEDED = 0.95
"""Share of the hours that a figure's inputs must cover."""
UNSEEN = timedelta(hours=1)
"""A run that accounts have not named for longer has ended; the newest interval may not be closed yet."""
