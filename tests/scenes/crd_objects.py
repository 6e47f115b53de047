# SPDX-License-Identifier: Apache-2.0
"""Objects of every kind for the API server's judgement: whole ones, changes that it must refuse, edges it must take."""

from typing import Any, NamedTuple

from embellie.api import EnergyPolicy, GridZone, PowerCap, ThermalZone, WorkloadPlan
from embellie.api.meta import Resource

Json = dict[str, Any]

VALID: dict[str, tuple[type[Resource], Json]] = {
    "gridzone": (
        GridZone,
        {
            "nodeSelector": {"topology.kubernetes.io/zone": "west"},
            "gridRegion": "US-CISO",
            "jurisdiction": "US-CA",
            "latitudeMillidegrees": 36_800,
            "longitudeMillidegrees": -119_800,
            "contractedPowerKilowatts": 140,
            "powerOrders": [
                {"startTime": "2026-11-23T18:00:00Z", "endTime": "2026-11-23T20:00:00Z", "powerKilowatts": 98}
            ],
            "powerSensor": {"query": "sum(facility_power_watts)", "unit": "Watt"},
            "sources": {
                "primary": {"kind": "EIA", "area": "CISO"},
                "crossCheck": {"kind": "ElectricityMaps", "area": "US-CAL-CISO"},
                "weather": "OpenMeteo",
            },
            "onSite": [
                {
                    "name": "roof",
                    "kind": "Solar",
                    "peakKilowatts": 30,
                    "tiltDegrees": 20,
                    "azimuthDegrees": 180,
                    "meter": {"query": "sum(pv_power_watts)", "unit": "Watt"},
                },
                {"name": "hill", "kind": "Wind", "peakKilowatts": 900, "hubHeightMeters": 120},
            ],
            "certifications": ["ISO 50001"],
        },
    ),
    "thermalzone": (
        ThermalZone,
        {
            "nodeSelector": {"example.com/row": "west-r1"},
            "gridZoneName": "west",
            "sensors": [
                {"name": "inlet", "role": "Inlet", "query": "max(inlet)", "unit": "Celsius"},
                {"name": "supply", "role": "Supply", "query": "max(supply)", "unit": "Fahrenheit"},
            ],
            "limits": {"inletHardCelsius": 32, "marginKelvin": 3},
            "cooling": {"capacityKilowatts": 70, "supplySetpointCelsius": 20, "supplyWorstCelsius": 27},
            "startRampKilowattsPerMinute": 20,
        },
    ),
    "energypolicy": (
        EnergyPolicy,
        {
            "mode": "enforce",
            "priority": 10,
            "namespaceSelector": {"matchNames": ["research"], "matchLabels": {"team": "physics"}},
            "workloadSelector": {"matchLabels": {"app.kubernetes.io/part-of": "training"}},
            "maxDelaySeconds": 86_400,
        },
    ),
    "workloadplan": (
        WorkloadPlan,
        {
            "workloadRef": {"apiVersion": "batch/v1", "kind": "Job", "name": "train", "uid": "0b1c2d3e"},
            "latestStartTime": "2026-03-02T12:00:00Z",
            "policyName": "research",
            "mode": "enforce",
        },
    ),
    "powercap": (
        PowerCap,
        {
            "capWatts": 490,
            "kneeWatts": 420,
            "expiryTime": "2026-03-02T12:00:00Z",
            "thermalZoneName": "west-a",
            "reason": "The row stands above its limit.",
        },
    ),
}


class Refused(NamedTuple):
    """A change to a valid object's spec, and a part of the answer."""

    kind: str
    path: str
    value: object
    answer: str


REMOVED = object()

REFUSED = {
    # Rules in CEL. Every rule of every kind needs a line here; a test below counts them.
    "a latitude without a longitude": Refused(
        "gridzone", "longitudeMillidegrees", REMOVED, "must be given together: add the missing one"
    ),
    "a GPU that draws more idle than at work": Refused(
        "gridzone", "gpuIdlePowerWatts", 800, "gpuRatedPowerWatts must be greater than or equal to gpuIdlePowerWatts"
    ),
    "a node label that cannot exist": Refused(
        "gridzone", "nodeSelector", {"a b": "west"}, "every key must be a label key, such as topology"
    ),
    "a grid zone called with a dot": Refused("gridzone", "/metadata/name", "eu.west", "dashes, without dots"),
    "a thermal zone called with a dot": Refused(
        "thermalzone", "/metadata/name", "row.a", "because a place is named <gridzone>.<thermalzone>"
    ),
    "a thermal zone that is its own neighbour": Refused(
        "thermalzone", "neighbourZoneNames", ["row-b", "sample"], "must not name the zone itself"
    ),
    "a thermal zone's node label that cannot exist": Refused(
        "thermalzone", "nodeSelector", {"/row": "a"}, "every key must be a label key"
    ),
    "a hard limit at the setpoint": Refused(
        "thermalzone", "limits.inletHardCelsius", 20, "raise the limit, reduce the margin or lower the setpoint"
    ),
    "a margin that eats the whole limit": Refused(
        "thermalzone", "limits.marginKelvin", 12, "raise the limit, reduce the margin or lower the setpoint"
    ),
    "a worst supply colder than the setpoint": Refused(
        "thermalzone", "cooling.supplyWorstCelsius", 19, "greater than or equal to cooling.supplySetpoint"
    ),
    "a thermal zone that limits nothing": Refused(
        "thermalzone", "", {"nodeSelector": {"row": "a"}}, "must be given, or the zone limits nothing"
    ),
    "a policy for kube-system": Refused(
        "energypolicy", "namespaceSelector.matchNames", ["research", "kube-system"], "remove them from matchNames"
    ),
    "a policy with a namespace label that cannot exist": Refused(
        "energypolicy", "namespaceSelector.matchLabels", {"-team": "a"}, "every key must be a label key"
    ),
    "a policy with a workload label that cannot exist": Refused(
        "energypolicy", "workloadSelector.matchLabels", {"team/": "a"}, "every key must be a label key"
    ),
    "a policy that weighs nothing": Refused(
        "energypolicy", "weights", {"carbonPercent": 0}, "raise one of them, or remove weights to plan by carbon alone"
    ),
    "a cap below the knee": Refused("powercap", "capWatts", 400, "slower faster than it gets cheaper"),
    "a cap of a card that does not exist": Refused("powercap", "capWatts", 90_000, "less than or equal to 10000"),
    "a cap without an end": Refused("powercap", "expiryTime", REMOVED, "spec.expiryTime: Required value"),
    "bonus work that waits less than patient work": Refused(
        "energypolicy", "bonusMaxDelaySeconds", 3600, "raise bonusMaxDelaySeconds or lower maxDelaySeconds"
    ),
    "a feed without its area": Refused("gridzone", "sources.primary", {"kind": "EIA"}, "such as CISO for EIA"),
    "a feed that checks itself": Refused(
        "gridzone", "sources.crossCheck", {"kind": "EIA", "area": "PJM"}, "a feed cannot check itself"
    ),
    "wind with a tilt": Refused("gridzone", "onSite.1.tiltDegrees", 20, "must not be given for kind Wind"),
    "panels with a hub": Refused("gridzone", "onSite.0.hubHeightMeters", 99, "must not be given for kind Solar"),
    "an order that ends before it begins": Refused(
        "gridzone", "powerOrders.0.endTime", "2026-11-23T08:00:00Z", "endTime must be after startTime: swap them"
    ),
    "panels nowhere": Refused(
        "gridzone",
        "",
        {"nodeSelector": {"zone": "a"}, "onSite": [{"name": "roof", "kind": "Solar", "peakKilowatts": 1}]},
        "must be given for a solar plant",
    ),
    # Bounds, enumerations, patterns, uniqueness.
    "a zone that selects every node": Refused("gridzone", "nodeSelector", {}, "should have at least 1 properties"),
    "a zone without a selector": Refused("gridzone", "nodeSelector", REMOVED, "spec.nodeSelector: Required value"),
    "a label value that cannot exist": Refused("gridzone", "nodeSelector", {"zone": "we st"}, "spec.nodeSelector.zone"),
    "a contract of nothing": Refused("gridzone", "contractedPowerKilowatts", 0, "greater than or equal to 1"),
    "a contract in words": Refused("gridzone", "contractedPowerKilowatts", "140", "must be of type integer"),
    "a contract in fractions": Refused("gridzone", "contractedPowerKilowatts", 140.5, "must be of type integer"),
    "an order without an end": Refused("gridzone", "powerOrders.0.endTime", REMOVED, "endTime: Required"),
    "an order for an hour of no day": Refused("gridzone", "powerOrders.0.startTime", "18:00", "startTime"),
    "an order to feed in": Refused("gridzone", "powerOrders.0.powerKilowatts", -1, "greater than or equal to 0"),
    "orders for every day of a month": Refused(
        "gridzone",
        "powerOrders",
        [{"startTime": "2026-11-23T18:00:00Z", "endTime": "2026-11-23T20:00:00Z", "powerKilowatts": 98}] * 17,
        "must have at most 16 items",
    ),
    "a PUE below one": Refused("gridzone", "powerUsageEffectivenessPercent", 90, "greater than or equal to 100"),
    "a latitude beyond the pole": Refused("gridzone", "latitudeMillidegrees", 90_001, "less than or equal to 90000"),
    "a grid region in small letters": Refused("gridzone", "gridRegion", "us-ciso", "spec.gridRegion in body"),
    "a country that is no code": Refused("gridzone", "jurisdiction", "France", "spec.jurisdiction"),
    "a sensor in horsepower": Refused("gridzone", "powerSensor.unit", "Horsepower", '"Watt", "Kilowatt"'),
    "a sensor without a query": Refused("gridzone", "powerSensor.query", "", "spec.powerSensor.query"),
    "two plants of one name": Refused(
        "gridzone", "onSite", [{"name": "roof", "kind": "Solar", "peakKilowatts": 1}] * 2, "spec.onSite[1]: Duplicate"
    ),
    "a coal plant on site": Refused(
        "gridzone", "onSite", [{"name": "roof", "kind": "Coal", "peakKilowatts": 1}], '"Solar", "Wind"'
    ),
    "panels that hang over": Refused("gridzone", "onSite.0.tiltDegrees", 91, "less than or equal to 90"),
    "a feed that nobody knows": Refused("gridzone", "sources.primary.kind", "Oracle", '"Eco2mix", "EIA"'),
    "an area that reaches out": Refused("gridzone", "sources.primary.area", "../etc", "sources.primary.area"),
    "the same certificate twice": Refused("gridzone", "certifications", ["A", "A"], "certifications[1]: Duplicate"),
    "a misspelt field": Refused("gridzone", "contractedPower", 5, 'unknown field "spec.contractedPower"'),
    "a sensor's role that does not exist": Refused(
        "thermalzone", "sensors.0.role", "Outlet", '"Inlet", "Return", "Supply"'
    ),
    "a temperature in watts": Refused(
        "thermalzone", "sensors.0.unit", "Watt", "unit must be Celsius, Fahrenheit or Kelvin for a temperature"
    ),
    "a soft limit above the hard one": Refused(
        "thermalzone", "limits.inletSoftCelsius", 33, "inletSoftCelsius must be less than inletHardCelsius"
    ),
    "a cooling capacity of zero": Refused(
        "thermalzone", "cooling.capacityKilowatts", 0, "greater than or equal to 1"
    ),
    "two sensors of one name": Refused("thermalzone", "sensors.1.name", "inlet", "spec.sensors[1]: Duplicate value"),
    "a sample believed for a day": Refused("thermalzone", "sensors.0.maxAgeSeconds", 86_400, "less than or equal to"),
    "more with one unit failed than with all": Refused(
        "thermalzone", "cooling.capacityAllUnitsKilowatts", 60, "must be greater than or equal to capacityKilowatts"
    ),
    "a permit for no time at all": Refused(
        "thermalzone",
        "rejectionCeilings",
        [{"name": "night", "heatKilowatts": 90, "fromHour": 22, "toHour": 22}],
        "write 0 and 24 for the whole day",
    ),
    "a limit on return air that nobody watches": Refused(
        "thermalzone", "limits.returnHardCelsius", 45, "a sensor with the role Return must be given"
    ),
    "a limit on the coolant's return that nobody watches": Refused(
        "thermalzone", "limits.coolantReturnHardCelsius", 56, "a sensor with the role CoolantReturn must be given"
    ),
    "a permit for days that are both hot and cold": Refused(
        "thermalzone",
        "rejectionCeilings",
        [{"name": "hot", "heatKilowatts": 90, "outdoorFromCelsius": 30, "outdoorToCelsius": 20}],
        "outdoorFromCelsius must be less than outdoorToCelsius, or the row never holds",
    ),
    "a permit for no river": Refused(
        "thermalzone",
        "rejectionCeilings",
        [{"name": "warm", "heatKilowatts": 90, "riverFromCelsius": 25, "riverToCelsius": 25}],
        "riverFromCelsius must be less than riverToCelsius, or the row never holds",
    ),
    "a limit that melts": Refused("thermalzone", "limits.inletHardCelsius", 200, "less than or equal to 90"),
    "a ramp of zero": Refused("thermalzone", "startRampKilowattsPerMinute", 0, "greater than or equal to 1"),
    "a mode that does not exist": Refused("energypolicy", "mode", "dry-run", '"shadow", "enforce"'),
    "a negative delay": Refused("energypolicy", "maxDelaySeconds", -1, "greater than or equal to 0"),
    "a delay in words": Refused("energypolicy", "maxDelaySeconds", "24h", "must be of type integer"),
    "a delay of a year": Refused("energypolicy", "maxDelaySeconds", 31_536_000, "less than or equal to 2592000"),
    "more than everything held": Refused("energypolicy", "maxHeldPercent", 101, "less than or equal to 100"),
    "a namespace named twice": Refused("energypolicy", "namespaceSelector.matchNames", ["a", "a"], "Duplicate value"),
    "a plan without a bound": Refused("workloadplan", "latestStartTime", REMOVED, "latestStartTime: Required value"),
    "a bound that is no time": Refused("workloadplan", "latestStartTime", "tomorrow", "must be of type date-time"),
    "a plan for a Deployment": Refused("workloadplan", "workloadRef.kind", "Deployment", '"Job", "Pod"'),
}  # fmt: skip

TRANSITIONS = {
    "a bound that moves later": Refused(
        "workloadplan",
        "latestStartTime",
        "2026-03-02T12:00:01Z",
        "latestStartTime must not move later, it is a promise",
    ),
    "a plan that changes its workload": Refused(
        "workloadplan", "workloadRef.uid", "another", "workloadRef must not change: delete this plan"
    ),
}

ACCEPTED = {
    "a grid zone with a selector and nothing else": ("gridzone", {"nodeSelector": {"zone": "west"}}),
    "an order to draw nothing in a zone without a contract": (
        "gridzone",
        {
            "nodeSelector": {"zone": "west"},
            "powerOrders": [
                {"startTime": "2026-11-23T18:00:00+01:00", "endTime": "2026-11-23T17:00:01Z", "powerKilowatts": 0}
            ],
        },
    ),
    "orders that overlap, touch, are equal, past, a year away and above the contract": (
        "gridzone",
        {
            "nodeSelector": {"zone": "west"},
            "contractedPowerKilowatts": 100,
            "powerOrders": [
                {"startTime": f"{begins}:00Z", "endTime": f"{ends}:00Z", "powerKilowatts": kw}
                for begins, ends, kw in (
                    ("2026-11-23T18:00", "2026-11-23T20:00", 98),
                    ("2026-11-23T19:00", "2026-11-23T21:00", 90),
                    ("2026-11-23T21:00", "2026-11-23T22:00", 90),
                    ("2026-11-23T21:00", "2026-11-23T22:00", 90),
                    ("1999-12-31T23:00", "2000-01-01T00:00", 1),
                    ("2027-11-23T18:00", "2027-11-23T20:00", 900),
                )
            ],
        },
    ),
    "a thermal zone that only spreads starts": (
        "thermalzone",
        {"nodeSelector": {"row": "a"}, "startRampKilowattsPerMinute": 5},
    ),
    "a thermal zone that knows only its capacity": (
        "thermalzone",
        {"nodeSelector": {"row": "a"}, "cooling": {"capacityKilowatts": 60}},
    ),
    "a thermal zone whose limit is just above the setpoint": (
        "thermalzone",
        {
            "nodeSelector": {"row": "a"},
            "limits": {"inletHardCelsius": 24},
            "cooling": {"riseMillikelvinPerKilowatt": 100, "supplyWorstCelsius": 20},
        },
    ),
    "an empty policy": ("energypolicy", {}),
    "a policy whose two delays are equal": ("energypolicy", {"maxDelaySeconds": 60, "bonusMaxDelaySeconds": 60}),
    "a feed that needs no area": ("gridzone", {"nodeSelector": {"z": "a"}, "sources": {"primary": {"kind": "NESO"}}}),
    "wind without a place": (
        "gridzone",
        {"nodeSelector": {"zone": "a"}, "onSite": [{"name": "hill", "kind": "Wind", "peakKilowatts": 1}]},
    ),
    "a site on the equator at Greenwich": (
        "gridzone",
        {"nodeSelector": {"zone": "a"}, "latitudeMillidegrees": 0, "longitudeMillidegrees": 0},
    ),
}
