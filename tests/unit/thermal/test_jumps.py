# SPDX-License-Identifier: Apache-2.0
"""What a sensor that jumps away and back teaches: nothing; while it stands there, it counts as what it says."""

from copy import deepcopy
from datetime import timedelta

import numpy as np
import pytest
from cooled_row import ambient, fresh, settings

from embellie.domain.snapshot import ThermalZoneState
from embellie.thermal.controller import HeatController
from embellie.thermal.sensing import ZoneReadings
from embellie.thermal.settings import CoolingSettings, LimitSettings, Role
from embellie_testbed.views import NOW

STEP = timedelta(seconds=60)
GAIN_K_PER_KW = 0.05


class Row:
    """A row under changing load, whose sensors may lie."""

    def __init__(self) -> None:
        cooling = CoolingSettings(capacity_kw=200.0, rise_k_per_kw=0.06, ambient_approach_k=5.0, tau_s=60.0)
        zone = settings(cooling=cooling, limits=LimitSettings(inlet_hard_c=32.0, margin_k=2.0))
        self.controller = HeatController([zone])
        self.random = np.random.default_rng(0)
        self.now, self.inlet_c, self.power_kw = NOW, 22.0, 60.0

    def run(self, minutes: int, lies: dict[Role, float] | None = None) -> ThermalZoneState:
        """Let time pass; return the zone's state then."""
        lie = lies or {}
        for _ in range(minutes):
            self.now += STEP
            if self.random.random() < 0.1:
                self.power_kw = self.random.uniform(30.0, 90.0)
            steady = 20.5 + GAIN_K_PER_KW * self.power_kw
            self.inlet_c += (steady - self.inlet_c) * (1.0 - np.exp(-1.0))
            said = {Role.INLET: self.inlet_c + self.random.normal(0.0, 0.1), Role.SUPPLY: 20.0}
            readings = ZoneReadings(by_role={role: fresh(c + lie.get(role, 0.0)) for role, c in said.items()})
            self.controller.observe(self.now, {"row": readings}, {"row": self.power_kw}, {"row": ambient(10.0)})
        return self.controller.states({"row": ambient(10.0)})[0]


@pytest.fixture(scope="module")
def learnt() -> Row:
    """Return a row that knows itself; to be copied."""
    row = Row()
    assert row.run(420).model.trusted
    return row


@pytest.mark.parametrize(("role", "off_k"), [(Role.INLET, 16.0), (Role.INLET, -16.0), (Role.SUPPLY, 16.0)])
def test_a_sensor_that_stood_wrong_for_minutes_and_is_right_again_has_taught_nothing(
    learnt: Row, role: Role, off_k: float
):
    row = deepcopy(learnt)
    before = row.run(1)
    row.run(10, {role: off_k})
    after = row.run(40)
    assert after.model.trusted
    assert after.model.own_k_per_kw == pytest.approx(before.model.own_k_per_kw, rel=0.1)
    assert after.model.margin_k == pytest.approx(before.model.margin_k, abs=0.5)
    assert after.outlook.removable_kw == pytest.approx(before.outlook.removable_kw, rel=0.1)


def test_a_zone_that_really_got_hotter_at_once_counts_as_that_much_hotter_at_once_and_is_learnt_anew(learnt: Row):
    row = deepcopy(learnt)
    before = row.run(1)
    soon = row.run(10, {Role.INLET: 11.0})
    assert soon.model.bias_k > 5.0
    assert soon.outlook.removable_kw[0] < 0.5 * before.outlook.removable_kw[0]
    later = row.run(35, {Role.INLET: 11.0})
    assert later.model.drifted
    assert later.outlook.removable_kw[0] < 0.5 * before.outlook.removable_kw[0]
