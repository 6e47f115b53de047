# SPDX-License-Identifier: Apache-2.0
"""Pure planning: a snapshot in, a plan out. No clock, no I/O, no Kubernetes."""

from embellie.planning.planner import plan

__all__ = ["plan"]
