# SPDX-License-Identifier: Apache-2.0
"""Replays in which the operator's planner and shield decide, turn by turn, when and where held jobs start."""
