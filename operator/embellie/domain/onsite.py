# SPDX-License-Identifier: Apache-2.0
"""What a kWh of a site's own sun or wind counts as."""

from collections.abc import Mapping

from embellie.domain.reasons import SignalKind

G_PER_KWH: Mapping[SignalKind, Mapping[str, float]] = {
    SignalKind.AVERAGE_LIFECYCLE: {"Solar": 45.0, "Wind": 11.0},
    SignalKind.AVERAGE_DIRECT: {"Solar": 0.0, "Wind": 0.0},
}
"""What a kilowatt-hour of a plant's own emits [g/kWh]: the factors that a grid's mix is reckoned by. Of the marginal
kind there is none: whether a surplus was sold is not known, so that nothing is spared by it."""
