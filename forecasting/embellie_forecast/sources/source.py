# SPDX-License-Identifier: Apache-2.0
"""What every source is: a name, a licence, and `read`, which gives a tidy frame or one clear error."""

from datetime import datetime, timedelta
from typing import Protocol

from embellie_forecast.sources.base import Licence
from embellie_forecast.sources.frame import Readings


class Source(Protocol):
    """A feed of readings about one place: a grid area, the weather at some points, or a meter."""

    @property
    def name(self) -> str:
        """What people call it, with the area that it is asked about."""
        ...

    @property
    def licence(self) -> Licence:
        """The terms of its data."""
        ...

    @property
    def usual_delay(self) -> timedelta:
        """How long after the end of a slot its value is usually there."""
        ...

    @property
    def foresight(self) -> timedelta:
        """How far past now its forecasts reach; nothing where it only measures."""
        ...

    def read(self, begin: datetime, end: datetime, *, now: datetime) -> Readings:
        """Return what is known at `now` about [begin, end), UTC.

        Raises:
            SourceError: There is nothing that can be believed.
        """
        ...
