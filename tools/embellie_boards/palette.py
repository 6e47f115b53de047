# SPDX-License-Identifier: Apache-2.0
"""Colours that stay apart for colour-blind readers: Okabe and Ito, Color Universal Design, 2008.

No meaning is carried by colour alone: states have words, limits are dashed.
"""

BLUE = "#0072B2"
SKY = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
ORANGE = "#E69F00"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#999999"

ORDER = (BLUE, ORANGE, SKY, VERMILION, PURPLE, GREEN, GREY, YELLOW)
"""In the order in which series of one panel take them: neighbours differ most."""

GOOD, LOOK, BAD, NEUTRAL = BLUE, ORANGE, VERMILION, GREY
