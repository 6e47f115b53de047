# SPDX-License-Identifier: Apache-2.0
"""A zone that heats under the ladder, turn by turn."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from embellie.domain.snapshot import Quality, Reading
from embellie.thermal.ladder import LadderMemory, Response, respond
from embellie.thermal.relief import HeatLoad
from embellie.thermal.rungs import Level, ZoneHeat
from embellie.thermal.settings import LadderSettings

NOW = datetime(2026, 7, 1, 14, 0, tzinfo=UTC)


POLICY = LadderSettings(min_dwell_s=300.0, pause_burst=2, pauses_per_hour=4.0)


def load(key: str, *, priority: int = 0, capable: bool = False, pausable: bool = True, gpus: int = 8, **changes):
    made = HeatLoad(
        key=key, zone="row", nodes=(f"node-{key}",), gpus=gpus, power_kw=0.7 * gpus, priority=priority,
        pausable=pausable, checkpoint_s=60.0, started_at=NOW - timedelta(hours=3), rated_w=700.0, knee_w=420.0,
        idle_w=70.0, capable=capable,
    )  # fmt: skip
    return replace(made, **changes)


class Zone:
    """One zone under the ladder; `shows` is one turn."""

    def __init__(self, policy: LadderSettings = POLICY, loads: tuple[HeatLoad, ...] = ()) -> None:
        self.policy, self.loads, self.memory, self.now = policy, loads, LadderMemory(), NOW
        self.heat_kw = 60.0
        self.pause_c = 30.5
        self.supply_c: float | None = None
        self.back_by: dict[str, datetime] = {}
        self.answer = Response(zones={})

    def shows(self, celsius: float | None, after_s: float = 30.0, target_kw: float | None = 50.0) -> Level:
        self.now += timedelta(seconds=after_s)
        quality = Quality.FRESH if celsius is not None else Quality.FROZEN
        zone = ZoneHeat(
            name="row",
            temperature=Reading(value=celsius, age_s=5.0, quality=quality),
            hard_c=32.0, enter_c=30.5, leave_c=28.5, pause_c=self.pause_c, target_kw=target_kw,
            heat_kw=self.heat_kw, supply_c=self.supply_c,
        )  # fmt: skip
        self.memory, self.answer = respond(
            self.memory, [zone], self.loads, {"row": self.policy}, self.now, self.back_by
        )
        return self.answer.zones["row"].level

    @property
    def proven_kw(self) -> float | None:
        """The most heat that may come back; None where that is not known, or does not count."""
        return max((heats["row"] for heats in self.answer.zones["row"].proven_kw), default=None)

    def stays(self, celsius: float | None, seconds: float) -> Level:
        for _ in range(int(seconds // 30)):
            level = self.shows(celsius)
        return level
