# SPDX-License-Identifier: Apache-2.0
"""`embellie why -f`: whether work would wait if it were created now, and until when. Pure.

The API server is asked by a dry run, so that holding is its own answer: switch, exclusions and webhooks included. The
bound and the places are found by the operator's own functions. The hour is told by the zones' published forecasts
alone, without what only a plan weighs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

from embellie.api.energypolicy import EnergyPolicy
from embellie.api.gridstatus import ForecastRung
from embellie.api.gridzone import GridZone
from embellie.api.thermalzone import ThermalZone
from embellie.cli.explain import Case, outside
from embellie.cli.words import in_time, one_line
from embellie.cluster.records import NamespaceRecord, NodeRecord, WorkloadRecord, parse_bare_pod, parse_job
from embellie.control.assembly.at_once import at_once
from embellie.control.assembly.layout import lay_out
from embellie.control.assembly.places import Places
from embellie.control.work.durations import History
from embellie.control.work.policies import PolicyTable
from embellie.control.work.terms import Terms, read_terms, residency_allows
from embellie.domain import names
from embellie.domain.reasons import Reason

Raw = Mapping[str, Any]
MOST_ZONES = 3
"""The cleanest ahead are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The zones and nodes that work could run in, as far as its user may read them."""

    grid_zones: tuple[GridZone, ...]
    thermal_zones: tuple[ThermalZone, ...] = ()
    nodes: tuple[NodeRecord, ...] | None = None
    """None where they may not be read."""

    def zones_for(
        self, record: WorkloadRecord, policy: EnergyPolicy, terms: Terms
    ) -> tuple[list[GridZone], Reason | None, str]:
        """Return the GridZones that it may use; or none, and why it would start at once, as a reason and in words."""
        layout = lay_out(self.grid_zones, self.thermal_zones, self.nodes or ())
        places = Places(layout, {zone.metadata.name: zone.spec for zone in self.grid_zones})
        usable = places.usable(record)
        found = {cell.grid_zone for cell in layout.cells if cell.name in usable}
        why, message = at_once(record, policy, terms, usable, places)
        if self.nodes is None and why is Reason.NO_ZONE:
            why, found = None, {zone.metadata.name for zone in self.grid_zones if _inside(zone, record)}
        return [zone for zone in self.grid_zones if zone.metadata.name in found], why, message

    def unknown(self, record: WorkloadRecord) -> bool:
        """Tell whether the work chooses nodes that its user may not read."""
        return self.nodes is None and bool(record.constraints.as_pod_spec())


def preview(
    made: Raw,
    namespace: NamespaceRecord,
    policies: Sequence[EnergyPolicy],
    site: Site,
    jobs: Iterable[Raw],
    *,
    now: datetime,
    zone: tzinfo | None,
) -> list[str]:
    """Return at most six lines.

    Args:
        made: What the API server would make of the work, with its kind.
        namespace: Where it would be created.
        policies: All EnergyPolicies.
        site: Where it could run.
        jobs: Those of the namespace; what has finished of them tells how long such work takes.
        now: When it would be created.
        zone: In which times are written.
    """
    case = Case(plan=None, workload=made, pods=(), events=(), now=now, zone=zone, held_pods=0)
    record = (parse_job if made["kind"] == "Job" else parse_bare_pod)(made)
    never = [] if case.held else outside(case)
    if never or record is None:
        return never
    begins = f"{case.who} would start at once"
    policy = PolicyTable(policies, [namespace], own_namespace="").match(record)
    if policy is None:
        return [f"{begins}: no EnergyPolicy matches it."]
    if not policy.enforces:
        return [f"{begins}: its policy {policy.metadata.name} is in mode shadow, and only watches."]
    if not case.held:
        return [f"{case.who} would not be held: it is created suspended or bound to a node, or holding is off now."]
    past = History(filter(None, map(parse_job, jobs)), lambda moment: moment).of(namespace.name)
    terms = read_terms(record.flex, record.annotations, now, policy.spec, past)
    problems = one_line("; ".join((*terms.problems, *record.strays)), 500)
    mend = [f"To mend: {problems}."] if problems else []
    zones, why, message = site.zones_for(record, policy, terms)
    if why is not None:
        told = message.removeprefix("It starts at once: ")
        because = [] if terms.start_now is not None else [told[:1].upper() + told[1:]]
        return [f"{begins} ({why}).", *because, *mend]
    latest = terms.latest_start
    until = f"until {case.time(latest)} ({in_time(latest, now)}) at the latest"
    return [
        f"{case.who} would be held by policy {policy.metadata.name}, {until}.",
        *_windows(case, zones, latest, policy.spec.minimum_saving_percent, site.unknown(record)),
        *mend,
    ]


def _inside(zone: GridZone, record: WorkloadRecord) -> bool:
    residency = record.annotations.get(names.RESIDENCY)
    return not residency or residency_allows(residency, zone.spec.jurisdiction or "")


def _windows(
    case: Case, zones: Sequence[GridZone], latest: datetime, minimum_saving_percent: int, unknown: bool
) -> list[str]:
    """Say what the zones' published forecasts show, and what that makes likely."""
    but = " Its node selector or affinity is left out: you may not read nodes." if unknown else ""
    found = sorted(window for zone in zones if (window := _window(zone, case.now)) is not None)
    if not found:
        return [f"No zone that it may use has a forecast: it would most likely start at once.{but}"]
    own_power = any(zone.spec.on_site for zone in zones)
    lines = [
        f"{name}: {now_g} g CO2e/kWh now, {best_g} in the cleanest four hours ahead, from {case.time(start)}."
        for best_g, start, name, now_g in found[:MOST_ZONES]
    ]
    now_g = min(each[-1] for each in found)
    best_g, start, name, _ = next((each for each in found if each[1] <= latest), (now_g, case.now, "", 0))
    saved_percent = round(100 * (now_g - best_g) / now_g) if now_g else 0
    if start <= case.now or saved_percent < max(1, minimum_saving_percent):
        own = ", or for the site's own sun and wind" if own_power else ""
        return [
            *lines,
            f"So it would most likely start at once, or wait for hours that a plan finds between{own}.{but}",
        ]
    likely = f"So it would most likely wait for about {case.time(start)} in {name}, for {saved_percent} % less a kWh."
    rest = "the room that is left, and the site's own sun and wind" if own_power else "and the room that is left"
    return [*lines, f"{likely} A plan weighs its whole run, {rest}.{but}"]


def _window(zone: GridZone, now: datetime) -> tuple[int, datetime, str, int] | None:
    """Return the cleanest hours' intensity and start, the zone, and the intensity now [g/kWh]; None without them."""
    status = zone.status
    best = status.next_best_window if status is not None else None
    if status is None or best is None or best.start_time is None or best.end_time is None or best.end_time <= now:
        return None
    now_g, best_g = status.carbon_intensity_grams_per_kilowatt_hour, best.carbon_intensity_grams_per_kilowatt_hour
    if now_g is None or best_g is None or status.forecast is None or status.forecast.rung is ForecastRung.NEUTRAL:
        return None
    return best_g, best.start_time, zone.metadata.name, now_g
