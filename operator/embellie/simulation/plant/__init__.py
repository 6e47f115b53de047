# SPDX-License-Identifier: Apache-2.0
"""A machine room to prove the operator on. Its physics share no code and no structure with the operator's models."""

from embellie.simulation.plant.noise import Noise
from embellie.simulation.plant.room import Rooms, zone_names
from embellie.simulation.plant.sensors import Sensors
from embellie.simulation.plant.spec import PlantError, PlantSpec, parse_plant, read_plant

__all__ = ["Noise", "PlantError", "PlantSpec", "Rooms", "Sensors", "parse_plant", "read_plant", "zone_names"]
