# SPDX-License-Identifier: Apache-2.0
"""Readings in (PromQL, forecasts), metrics out."""
