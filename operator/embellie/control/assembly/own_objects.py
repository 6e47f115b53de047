# SPDX-License-Identifier: Apache-2.0
"""Reads our own objects as the API server holds them."""

import logging
from collections.abc import Sequence
from typing import TypeVar

from pydantic import ValidationError

from embellie.api.energypolicy import EnergyPolicy
from embellie.api.gridzone import GridZone
from embellie.api.thermalzone import ThermalZone
from embellie.cluster.demands import Raw

logger = logging.getLogger(__name__)

_Kind = TypeVar("_Kind", GridZone, ThermalZone, EnergyPolicy)


class OwnObjects:
    """Parses what is new; remembers what it complained about."""

    def __init__(self) -> None:
        self._invalid: dict[str, str] = {}
        self._parsed: dict[str, tuple[Raw, GridZone | ThermalZone | EnergyPolicy]] = {}

    def parse(self, kind: type[_Kind], raws: Sequence[Raw]) -> tuple[_Kind, ...]:
        """Return what can be read; an object that cannot (written past the schema) is named once and left out."""
        found = []
        for raw in raws:
            name = f"{kind.__name__} {raw['metadata']['name']}"
            before, parsed = self._parsed.get(name, (None, None))
            if before is raw and isinstance(parsed, kind):
                found.append(parsed)
                continue
            try:
                parsed = kind.model_validate(raw)
                found.append(parsed)
                self._parsed[name] = raw, parsed
                self._invalid.pop(name, None)
            except ValidationError as error:
                text = str(error)[:500]
                if self._invalid.get(name) != text:
                    self._invalid[name] = text
                    logger.warning("%s cannot be read and is left out: %s", name, text)
        return tuple(found)
