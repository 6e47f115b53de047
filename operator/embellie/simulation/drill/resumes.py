# SPDX-License-Identifier: Apache-2.0
"""How paused work goes on in a drilled room: where the shield agrees, and in any case once its pause is over.

As in a cluster: a pause has a bound of its own, after which the work goes on whatever its zone shows, and each Job is
paused at most once a day.
"""

from collections.abc import Iterator

from embellie.simulation.drill.desk import Desk
from embellie.simulation.drill.site import PAUSE_S, Run
from embellie.thermal.controller import HeatController
from embellie.thermal.raising import BACK_S


def back_s(desk: Desk, now_s: float) -> Iterator[tuple[str, float]]:
    """Yield the ladder's key of what is paused, and when it goes on at the latest [s]."""
    if now_s < desk.no_forced_from_s:
        for key, run in desk.site.paused.items():
            if run.paused_s is not None:
                yield f"{desk.b}|{key}", run.paused_s + PAUSE_S


def resume(desk: Desk, keys: list[str], now_s: float, controller: HeatController) -> None:
    """Bring back what the ladder lets back, where the shield agrees, and what was paused for as long as it may be."""
    site = desk.site
    for key in keys:
        if key not in site.paused and key not in site.running:
            controller.resumed(f"{desk.b}|{key}")
    asked = set(keys)
    for key, run in list(site.paused.items()) if now_s < desk.starts_until_s else ():
        over = run.paused_s is not None and now_s >= run.paused_s + PAUSE_S
        if (key in asked or over) and _goes_on(desk, run, now_s, anyway=over and now_s < desk.no_forced_from_s):
            controller.resumed(f"{desk.b}|{key}")


def _goes_on(desk: Desk, run: Run, now_s: float, *, anyway: bool) -> bool:
    """Start a paused run where there is room for it, else where it ran or anywhere; return whether it did."""
    site, job = desk.site, run.job
    seats = [zone for zone in site.zones if site.pools[zone].fits(job.pods, job.gpus_per_pod)]
    for zone in sorted(seats, key=lambda z: -site.pools[z].free_gpus):
        if not desk.refuses(zone, desk.jobs.worst_kw(job), BACK_S, now_s):
            return site.start(job, zone, now_s, forced=False)
    if not (anyway and seats):
        return False
    return site.start(job, run.zone if run.zone in seats else seats[0], now_s, forced=False)
