# SPDX-License-Identifier: Apache-2.0
"""Tells on each zone and policy what a turn found of it."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime

from embellie.api.meta import ApiModel, Resource
from embellie.cluster.client import KubeClient
from embellie.cluster.statuses import StatusWriter
from embellie.control.acting.switch_keeper import Holding
from embellie.control.assembly.assemble import Assembly
from embellie.control.assembly.sensors import Readings
from embellie.control.deciding.turn import Verdicts
from embellie.control.telling.thermal_status import thermal_zone_status
from embellie.control.telling.zone_status import grid_zone_status, policy_status
from embellie.thermal.zone_now import ZoneReport


class StatusDesk:
    """Writes statuses, each only where it is worth it (`StatusWriter`)."""

    def __init__(self, client: KubeClient) -> None:
        self._writer = StatusWriter(client)

    def tell(
        self,
        assembly: Assembly,
        readings: Readings,
        verdicts: Verdicts,
        reports: Mapping[str, ZoneReport],
        holding: Holding,
    ) -> None:
        """Write the statuses of all zones and policies after a turn.

        Args:
            assembly: What the turn knew.
            readings: The sensors' readings and their problems.
            verdicts: What it decided.
            reports: What the heat controller found out, by thermal zone.
            holding: Whether new work is held where policies enforce.
        """
        wall_now, now_s = datetime.now(UTC), time.monotonic()
        for grid in assembly.grid_zones:
            self._write(grid, grid_zone_status(grid, assembly, readings.problems, wall_now, verdicts.collisions), now_s)
        for thermal in assembly.thermal_zones:
            name = thermal.metadata.name
            status = thermal_zone_status(
                thermal,
                assembly,
                readings.problems,
                wall_now,
                reports.get(name),
                readings.zones.get(name),
                verdicts.collisions,
            )
            self._write(thermal, status, now_s)
        for policy in assembly.table.policies:
            self._write(policy, policy_status(policy, assembly.table, verdicts.records, wall_now, holding), now_s)

    def _write(self, of: Resource, status: ApiModel, now_s: float) -> None:
        kind = of.definition
        self._writer.write(kind.kind, kind.plural, of.metadata.name, status.to_json_object(), now_s)
