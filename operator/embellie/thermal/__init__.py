# SPDX-License-Identifier: Apache-2.0
"""Pure thermal and power reasoning: trust in readings, headroom, and the shield after the plan."""

from embellie.thermal.shield import check_rise, shield

__all__ = ["check_rise", "shield"]
