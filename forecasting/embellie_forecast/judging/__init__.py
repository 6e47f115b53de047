# SPDX-License-Identifier: Apache-2.0
"""Judging past forecasts: protocols of the published papers, scores, and what scheduling by them would have cost."""

from embellie_forecast.judging.protocols import Protocol, ProtocolError
from embellie_forecast.judging.run import Request, judge

__all__ = ["Protocol", "ProtocolError", "Request", "judge"]
