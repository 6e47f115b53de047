# SPDX-License-Identifier: Apache-2.0
"""What every source may say beside its values: one clear error, and under what terms they may be used."""

from dataclasses import dataclass
from enum import StrEnum


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
