# SPDX-License-Identifier: Apache-2.0
"""Solar and wind behind the zone's own meter: from forecast weather to power, corrected by what the meter showed."""
