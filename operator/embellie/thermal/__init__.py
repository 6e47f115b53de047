# SPDX-License-Identifier: Apache-2.0
"""Pure thermal and power reasoning: trust in readings, headroom, and the shield after the plan."""

from embellie.thermal.shield import Rises, check_rise, shield

__all__ = ["Rises", "check_rise", "shield"]
