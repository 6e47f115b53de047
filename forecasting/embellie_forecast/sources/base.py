# SPDX-License-Identifier: Apache-2.0
"""What every source is: a name, a licence, and `read`, which gives a tidy frame or one clear error."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from embellie_forecast.sources.frame import Readings


class Fault(StrEnum):
    """Why a source gave nothing that can be used."""

    NOT_CONFIGURED = "NotConfigured"
    UNAUTHORIZED = "Unauthorized"
    FORBIDDEN = "Forbidden"
    RATE_LIMITED = "RateLimited"
    UNAVAILABLE = "Unavailable"
    TIMEOUT = "Timeout"
    MALFORMED = "Malformed"
    EMPTY = "Empty"
    CLOCK = "Clock"
    STALE = "Stale"


class SourceError(ValueError):
    """A source gives nothing now; the sentence says why and how to mend it, and never holds a credential."""

    def __init__(self, fault: Fault, sentence: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(sentence)
        self.fault = fault
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """Under what terms the data may be used, and who must be named."""

    name: str
    url: str
    attribution: str


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

    def read(self, begin: datetime, end: datetime, *, now: datetime) -> "Readings":
        """Return what is known at `now` about [begin, end), UTC.

        Raises:
            SourceError: There is nothing that can be believed.
        """
        ...
