# SPDX-License-Identifier: Apache-2.0
"""Each GridZone's PUE, learnt from its power meter, its nodes' own power and the weather. Pure but for its memory."""

import math
from collections.abc import Mapping, Sequence

from embellie.control.heat.power import PowerBook
from embellie.domain.forecast import FloatArray
from embellie.domain.limits import fresh_value
from embellie.domain.snapshot import Reading
from embellie.thermal.weather import PueModel


class PueBook:
    """One model for each GridZone that has a meter."""

    def __init__(self) -> None:
        self._models: dict[str, PueModel] = {}
        self._it_kw: dict[str, float] = {}
        self._refreshed = 0

    def observe(
        self,
        facility: Mapping[str, Reading],
        power: PowerBook,
        nodes: Mapping[str, Sequence[str]],
        outdoor_c: Mapping[str, float],
    ) -> None:
        """Take what the meters say, once each time that the nodes were read.

        Args:
            facility: GridZone -> its power meter [kW].
            power: What nodes draw now.
            nodes: GridZone -> its nodes; a zone with one of unknown power teaches nothing.
            outdoor_c: GridZone -> outdoor temperature now [degC].
        """
        if power.refreshed == self._refreshed:
            return
        self._refreshed = power.refreshed
        for zone, reading in facility.items():
            whole, it_kw = fresh_value(reading), power.zone_kw(nodes.get(zone, ()))
            if whole is None or it_kw is None:
                continue
            self._it_kw[zone] = it_kw
            self._models.setdefault(zone, PueModel()).observe(whole, it_kw, outdoor_c.get(zone, math.nan))

    def ahead(self, zone: str, outdoor_c: FloatArray, said: FloatArray) -> FloatArray:
        """Return a GridZone's PUE at its present load over outdoor temperatures ahead; `said` until it is learnt."""
        model = self._models.get(zone)
        return said if model is None else model.ahead(self._it_kw[zone], outdoor_c, said)
