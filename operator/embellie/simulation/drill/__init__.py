# SPDX-License-Identifier: Apache-2.0
"""Drills: the operator's own code on the plant, through its sensors, while things go wrong."""
