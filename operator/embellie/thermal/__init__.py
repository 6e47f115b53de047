# SPDX-License-Identifier: Apache-2.0
"""Pure thermal and power reasoning: trust in readings, headroom, and the shield after the plan."""

from embellie.thermal.shield import Rises, shield

__all__ = ["Rises", "shield"]
