# SPDX-License-Identifier: Apache-2.0
"""What a machine room is made of: the schema of `embellie thermal drill --plant FILE` (JSON or YAML).

Every number has a default, a unit in its name and a range; what a file leaves out keeps the default. The defaults are
a room of 128 eight-GPU nodes: two rows of air-cooled racks that share one hall, and a liquid loop behind a coolant
distribution unit (CDU) whose heat leaves through dry coolers or into a heat network.
"""

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

MOST_RISE_K = 60.0
"""No server lets its air warm further at full power."""
LEAST_SLAB_S = 60.0
"""A building that follows the air faster than this is none, and the integration would not follow it."""
COOL_AGAIN_K = 2.0
"""So far below its soft limit a row counts as cool again."""
Positive = Annotated[float, Field(gt=0, lt=1e7, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, lt=1e7, allow_inf_nan=False)]
Celsius = Annotated[float, Field(ge=-40, le=120, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class PlantError(ValueError):
    """A plant file that no room can be built from; the message names the field and the mend."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class NodeSpec(_Part):
    """One eight-GPU node as it really is."""

    gpus: Annotated[int, Field(ge=1, le=64)] = 8
    idle_kw: Positive = 2.9
    """Everything but the fans, all GPUs idle."""
    gpu_idle_w: NotNegative = 140.0
    gpu_rated_w: Positive = 700.0
    host_share: NotNegative = 0.03
    """What the host adds for each watt of its GPUs above idle."""
    fan_full_kw: NotNegative = 1.6
    """Fans of an air-cooled node at full speed; they follow the cube of the speed."""
    leakage_per_k: NotNegative = 0.002
    """Growth of GPU power per kelvin of inlet above 25 degC, at equal work."""
    power_noise: Share = 0.03
    """Standard deviation of a rack's power around what its jobs draw."""
    die_k_per_w_air: Positive = 0.05
    die_k_per_w_liquid: Positive = 0.035
    slowdown_c: Celsius = 87.0
    """Die temperature at which the hardware slows itself down."""

    def added_kw(self, share: float = 1.0) -> float:
        """Return what work adds that draws so much of the GPUs' rated power, the host's part included [kW]."""
        return self.gpus * (share * self.gpu_rated_w - self.gpu_idle_w) * (1.0 + self.host_share) / 1000.0

    @model_validator(mode="after")
    def _ordered(self) -> "NodeSpec":
        if self.gpu_rated_w <= self.gpu_idle_w:
            raise ValueError("node.gpu_rated_w must be greater than node.gpu_idle_w")
        return self


class HallSpec(_Part):
    """Rows of air-cooled racks that share a hall, its CRAC units and their chillers."""

    rows: Annotated[int, Field(ge=1, le=16)] = 2
    racks_per_row: Annotated[int, Field(ge=1, le=64)] = 4
    nodes_per_rack: Annotated[int, Field(ge=1, le=32)] = 4
    rack_airflow_kw_per_k: Positive = 2.9
    """Heat capacity flow through a rack with its fans at full speed (1 m3/s of air carries 1.2 kW/K)."""
    recirculation_share: Share = 0.12
    """Share of hot air in what a rack breathes while the CRAC units deliver enough."""
    recirculation_gain: NotNegative = 0.8
    """How much of the air that the CRAC units fail to deliver is drawn from the hot side instead."""
    row_spread: Share = 0.3
    """How much worse the last row is contained than the first."""
    inlet_time_constant_s: Positive = 75.0
    server_time_constant_s: Positive = 140.0
    air_heat_capacity_kj_per_k: Positive = 3500.0
    """C of the hot side: air, racks and ducts."""
    structure_heat_capacity_kj_per_k: Positive = 150_000.0
    structure_kw_per_k: NotNegative = 3.0
    """1/R between the hot side and the building."""
    crac_units: Annotated[int, Field(ge=1, le=64)] = 4
    """With the spare; the room is meant to run on one fewer."""
    crac_airflow_kw_per_k: Positive = 5.8
    """Heat capacity flow of one unit at full speed."""
    crac_coil_kw_per_k: Positive = 12.0
    """UA of one unit's coil at full airflow."""
    crac_time_constant_s: Positive = 60.0
    supply_setpoint_c: Celsius = 22.0
    chilled_water_setpoint_c: Celsius = 14.0
    chilled_water_heat_capacity_kj_per_k: Positive = 12_000.0
    chiller_kw: NotNegative = 300.0
    """Cooling power of all chillers at 35 degC outside."""
    chiller_derate_per_k: NotNegative = 0.025
    """Share of it lost per kelvin above 35 degC."""
    chiller_cop: Positive = 4.0
    economiser_kw_per_k: NotNegative = 9.0
    """What free cooling carries away per kelvin between chilled water and outside."""
    evaporative_share: Share = 0.0
    """How far free cooling comes down from the dry bulb outside towards the wet bulb."""
    flow_step_s: Positive = 600.0
    """CRAC fans change their speed in steps, this far apart."""


class LoopSpec(_Part):
    """Liquid-cooled nodes on the loop of one CDU, its facility water and its dry coolers."""

    nodes: Annotated[int, Field(ge=0, le=10_000)] = 96
    liquid_share: Share = 0.9
    """Share of the nodes' heat that the coolant takes; the rest leaves by doors of its own."""
    coolant_flow_kw_per_k: Positive = 120.0
    """Heat capacity flow with all pumps at full speed (1 L/s of water carries 4.18 kW/K)."""
    pump_alone_share: Share = 0.7
    """Flow, as a share of the full one, when one pump has failed."""
    supply_heat_capacity_kj_per_k: Positive = 9000.0
    return_heat_capacity_kj_per_k: Positive = 12_000.0
    exchanger_kw_per_k: Positive = 260.0
    """UA of the CDU's heat exchanger at full flow on both sides."""
    water_flow_kw_per_k: Positive = 130.0
    water_heat_capacity_kj_per_k: Positive = 40_000.0
    """C of each half of the facility water."""
    supply_setpoint_c: Celsius = 34.0
    water_setpoint_c: Celsius = 29.0
    dry_cooler_kw_per_k: Positive = 190.0
    """UA of the dry coolers with all fans at full speed."""
    dry_cooler_air_kw_per_k: Positive = 210.0
    """Heat capacity flow of their air."""
    adiabatic_share: Share = 0.0
    """How far sprays bring the air down towards the wet bulb above 30 degC outside."""
    flow_step_s: Positive = 600.0
    """Pumps change their speed in steps, this far apart."""


class NetworkSpec(_Part):
    """A heat network that takes heat from the facility water."""

    exchanger_kw_per_k: NotNegative = 90.0
    temperature_c: Celsius = 27.0
    minimum_c: Celsius = 29.0
    """Below this the network takes nothing."""
    demand_kw: NotNegative = 450.0
    """What it takes at most, at 0 degC outside."""
    demand_per_k: Share = 0.012
    """Share of the demand lost per kelvin outside above 0 degC."""
    floor_kw: NotNegative = 150.0
    """What it is owed."""


class LimitSpec(_Part):
    """Hard limits, and the margins that the engineer asks for."""

    inlet_hard_c: Celsius = 32.0
    inlet_soft_c: Celsius = 29.0
    inlet_margin_k: NotNegative = 2.0
    coolant_supply_hard_c: Celsius = 45.0
    coolant_return_hard_c: Celsius = 56.0
    coolant_margin_k: NotNegative = 2.0
    contracted_kw: Positive | None = None
    """Facility power, mean of a quarter of an hour. Left out: what the room draws at worst."""
    ceiling_kw: Positive | None = None
    """Heat that the loop may leave to the outside, mean of a quarter of an hour. Left out: only in the drill of it."""
    start_ramp_kw_per_min: Positive = 60.0

    @model_validator(mode="after")
    def _ordered(self) -> "LimitSpec":
        if self.inlet_soft_c >= self.inlet_hard_c:
            raise ValueError("limits.inlet_soft_c must be below limits.inlet_hard_c")
        if self.coolant_supply_hard_c >= self.coolant_return_hard_c:
            raise ValueError("limits.coolant_supply_hard_c must be below limits.coolant_return_hard_c")
        return self


class SensorSpec(_Part):
    """How the room is seen."""

    delay_s: NotNegative = 20.0
    """From a change in the room to a sample that shows it."""
    scrape_s: Positive = 30.0
    noise_k: NotNegative = 0.15
    quantum_k: NotNegative = 0.5
    power_noise: Share = 0.01
    outdoor_offset_k: Annotated[float, Field(ge=-15, le=15)] = 2.0
    """How much hotter the site is than its region, for which the weather is forecast."""


class ControlSpec(_Part):
    """How fast the operator turns and how fast what it orders takes effect."""

    turn_s: Annotated[float, Field(ge=5, le=300)] = 30.0
    caps: bool = True
    """Whether a node agent writes power caps."""
    grace_s: NotNegative = 120.0
    """How long a paused pod may go on drawing power after its checkpoint."""
    start_delay_s: NotNegative = 30.0


class PlantSpec(_Part):
    """A whole machine room."""

    design_outdoor_c: Celsius = 36.0
    """The outdoor temperature that the cooling was commissioned for."""
    spread: Share = 0.08
    """By how much each seed's room differs in every R, C and flow from what the engineer measured."""

    node: NodeSpec = NodeSpec()
    hall: HallSpec = HallSpec()
    loop: LoopSpec = LoopSpec()
    network: NetworkSpec = NetworkSpec()
    limits: LimitSpec = LimitSpec()
    sensors: SensorSpec = SensorSpec()
    control: ControlSpec = ControlSpec()

    @model_validator(mode="after")
    def _workable(self) -> "PlantSpec":
        if self.limits.inlet_hard_c - self.limits.inlet_margin_k <= self.hall.supply_setpoint_c:
            raise ValueError(
                "limits.inlet_hard_c less limits.inlet_margin_k must be above hall.supply_setpoint_c, "
                "or nothing could ever run in the hall"
            )
        if self.limits.inlet_soft_c - COOL_AGAIN_K <= self.hall.supply_setpoint_c:
            raise ValueError(
                f"limits.inlet_soft_c must be more than {COOL_AGAIN_K:g} K above hall.supply_setpoint_c, or a row that "
                "was over it once would never count as cool again"
            )
        node, hall = self.node, self.hall
        full_kw = node.idle_kw + node.fan_full_kw + node.added_kw()
        if hall.nodes_per_rack * full_kw > MOST_RISE_K * hall.rack_airflow_kw_per_k:
            raise ValueError(
                f"hall.rack_airflow_kw_per_k must be more: {hall.nodes_per_rack} nodes of {full_kw:.1f} kW would warm "
                f"the air of their rack by more than {MOST_RISE_K:g} K"
            )
        if hall.structure_heat_capacity_kj_per_k < LEAST_SLAB_S * hall.structure_kw_per_k:
            raise ValueError(
                f"hall.structure_heat_capacity_kj_per_k must be at least {LEAST_SLAB_S:g} s times "
                "hall.structure_kw_per_k"
            )
        if self.limits.coolant_supply_hard_c - self.limits.coolant_margin_k <= self.loop.supply_setpoint_c:
            raise ValueError(
                "limits.coolant_supply_hard_c less limits.coolant_margin_k must be above loop.supply_setpoint_c, "
                "or nothing could ever run on the loop"
            )
        if self.loop.water_setpoint_c >= self.loop.supply_setpoint_c:
            raise ValueError("loop.water_setpoint_c must be below loop.supply_setpoint_c")
        if self.hall.chilled_water_setpoint_c >= self.hall.supply_setpoint_c:
            raise ValueError("hall.chilled_water_setpoint_c must be below hall.supply_setpoint_c")
        return self

    @property
    def racks(self) -> int:
        """Racks of the hall."""
        return self.hall.rows * self.hall.racks_per_row

    @property
    def hall_nodes(self) -> int:
        """Air-cooled nodes."""
        return self.racks * self.hall.nodes_per_rack

    @property
    def gpus(self) -> int:
        """GPUs of the room."""
        return (self.hall_nodes + self.loop.nodes) * self.node.gpus


def parse_plant(content: Any, where: str = "the plant file") -> PlantSpec:
    """Return the room that a parsed file describes; raises PlantError with the field and what it must be."""
    if not isinstance(content, dict):
        raise PlantError(f"{where} must be a mapping with sections such as hall, loop and limits")
    try:
        return PlantSpec.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {_fault(e)}" for e in error.errors()[:5])
        raise PlantError(f"{where}: {faults}") from error


def _fault(error: ErrorDetails) -> str:
    """Return pydantic's words, or ours where they do not say what to do."""
    if error["type"] == "extra_forbidden":
        return "there is no such field (docs/drills.md lists them)"
    return error["msg"].removeprefix("Value error, ")


def read_plant(path: Path) -> PlantSpec:
    """Read a room from a JSON or YAML file."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PlantError(f"{path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise PlantError(f"{path} is neither JSON nor YAML: {error}") from error
    return parse_plant(content if content is not None else {}, str(path))
