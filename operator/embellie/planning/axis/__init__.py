# SPDX-License-Identifier: Apache-2.0
"""A turn on the planner's time axis: what hours cost, what is free in them, and what power is wanted for."""
