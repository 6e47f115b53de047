# SPDX-License-Identifier: Apache-2.0
"""One seed: everything is started, disturbed for some minutes, uninstalled, and then judged."""

import contextlib
import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.paths import cache_folder
from embellie_testbed.processes import until
from embellie_testbed.product import NAMESPACE, RELEASE, program
from embellie_testbed.soak.agents import Agents
from embellie_testbed.soak.audit import read_log
from embellie_testbed.soak.judge import judge
from embellie_testbed.soak.remains import gather, judge_logs, judge_remains
from embellie_testbed.soak.rules import Case, Violation
from embellie_testbed.soak.rules_holds import ALIVE, latest
from embellie_testbed.soak.site import JURISDICTIONS, TEAMS, TERMS, UNANSWERED, Site, open_site
from embellie_testbed.soak.spells import Journal, Part, now, read_spells, write_spells
from embellie_testbed.soak.trail import read_trail
from embellie_testbed.soak.trouble import KINDS, Trouble
from embellie_testbed.soak.users import User, newcomer, submit
from embellie_testbed.soak.weather import Weather

SPELLS = "spells.json"
USERS = 3
SLOW_S = 1.5
"""The machine counts as disturbed while a read of one object, or a nap, takes that much longer than it should [s]."""
_UNINSTALL_S = (8, 90)
"""The time over which releases are spread, and after which it gives up [s]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of a seed."""

    violations: tuple[Violation, ...]
    says: str
    logs: Path | None
    """Where the logs and the audit log were kept; None where nothing was violated."""


def run_seed(seed: int, minutes: float, *, keep: bool = False) -> Verdict:
    """Run one seed, judge it, and keep its logs where a promise was not kept or `keep` asks for them."""
    rng, journal = random.Random(seed), Journal()
    with open_site(rng, journal) as site:
        trouble = Trouble(site, str(seed))
        began = now()
        _disturb(site, trouble, seed, minutes * 60.0)
        if rng.random() < 0.5:
            time.sleep(TERMS.tolerance_s * 2)
        failed, uninstalled_at = _uninstall(site)
        case = Case(
            trail=read_trail(read_log(site.plane.audit_log)),
            spells=journal.spells(),
            terms=replace(TERMS, uninstalled_at=uninstalled_at),
        )
        left = judge_remains(gather(site.plane), case.trail)
        violations = (*judge(case), *failed, *left, *judge_logs(site.plane.processes.logs))
        said = _summary(case, trouble, began, site)
        told = [said, *site.ends, *trouble.faults, *map(str, violations)]
        logs = _keep(site.plane, seed, case, told) if violations or keep else None
    return Verdict(violations=violations, says=said, logs=logs)


def _disturb(site: Site, trouble: Trouble, seed: int, seconds: float) -> None:
    """Let users, programs, weather and trouble do what they do for a while."""
    weather = Weather(site.exchange, tuple(JURISDICTIONS), f"{seed}/weather")
    weather.issue("swings")
    for post in site.posts:
        site.start(post)
    site.wait_until_it_holds()
    users_stop, trouble_stop = threading.Event(), threading.Event()
    users = [User(site, f"{seed}/u{number}") for number in range(USERS)]
    people: list[Callable[[threading.Event], None]] = [*(user.run for user in users), weather.run, Agents(site).run]
    people.append(_Pulse(site).run)
    threads = [threading.Thread(target=each, args=(users_stop,), daemon=True) for each in people]
    wreckers = [threading.Thread(target=trouble.run, args=(trouble_stop, kind), daemon=True) for kind in KINDS]
    for thread in (*threads, *wreckers):
        thread.start()
    time.sleep(seconds)
    # What is broken is mended while people go on.
    trouble_stop.set()
    for thread in wreckers:
        thread.join()
    users_stop.set()
    for thread in threads:
        thread.join(timeout=90.0)


class _Pulse:
    """Feels how fast API server and machine are, so that what they could not do is asked of nobody."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._rest = site.plane.rest()

    def run(self, stop: threading.Event) -> None:
        """Read an object over and over."""
        begin = now()
        while not stop.wait(0.5):
            with contextlib.suppress(*UNANSWERED):
                self._rest.get(f"/api/v1/namespaces/{NAMESPACE}")
            end = now()
            if (end - begin).total_seconds() > 0.5 + SLOW_S:
                self._site.journal.add("slow machine", Part.API, begin=begin, end=end + timedelta(seconds=3.0))
            begin = end
        self._rest.close()


def _uninstall(site: Site) -> tuple[list[Violation], datetime]:
    """Uninstall as Helm does, its hook first, with everything alive."""
    release_s, give_up_s = _UNINSTALL_S
    config = site.plane.kubeconfig_for(NAMESPACE, f"{RELEASE}-watchdog")
    argv = [program("embellie-watchdog"), "uninstall", f"--namespace={NAMESPACE}", f"--name={RELEASE}"]
    argv += [f"--kubeconfig={config}", f"--release-seconds={release_s}", f"--timeout-seconds={give_up_s}"]
    processes = site.plane.processes
    processes.start("uninstall", argv)
    until(lambda: processes.exit_code("uninstall") is not None, "the uninstall's hook ends", give_up_s + 60.0)
    at = now()
    failed = []
    if processes.exit_code("uninstall") != 0:
        said = processes.log_tail("uninstall")
        failed.append(Violation(promise="an uninstall of a cluster that is well succeeds", says=said))
    rest = site.plane.rest()
    for team in TEAMS:
        submit(rest, newcomer("newcomer", team))
    rest.close()
    site.plane.helm("uninstall", RELEASE, "-n", NAMESPACE, "--no-hooks")
    for post in site.posts:
        site.stop(post, signal.SIGTERM)
    # Pods and whatever else owners leave behind go a little later.
    pods = ("get", "pods", "-n", NAMESPACE, "-o", "name")
    with contextlib.suppress(TimeoutError):
        until(lambda: not site.plane.kubectl(*pods).strip(), "the chart's pods are gone", 30.0)
    return failed, at


def _summary(case: Case, trouble: Trouble, began: datetime, site: Site) -> str:
    """Say in one line what a seed did, so that one that judged nothing is not taken for a good one."""
    trail = case.trail
    waits = list(trail.waits())
    pauses = sum(wait.pause for wait in waits)
    seconds, works = (trail.until - began).total_seconds(), sum(1 for _ in trail.work())
    quiet_s = case.undisturbed_s(ALIVE, began, trail.until)
    kinds = Counter(trouble.done)
    return (
        f"{seconds:.0f} s ({quiet_s:.0f} undisturbed), {works} workloads, {len(waits) - pauses} held, "
        f"{pauses} paused, {len(trail.bindings)} pods bound, {kinds.total()} troubles of {len(kinds)} kinds, "
        f"{len(site.ends)} ends of programs, latest {latest(case):.1f} s past its bound"
    )


def judge_again(folder: Path) -> list[Violation]:
    """Judge the logs that an earlier run kept, but for what was left in its cluster."""
    trail, spells = read_trail(read_log(folder / "audit.log")), read_spells(folder / SPELLS)
    return [*judge(Case(trail=trail, spells=spells, terms=TERMS)), *judge_logs(folder)]


def _keep(plane: ControlPlane, seed: int, case: Case, said: list[str]) -> Path:
    target = cache_folder() / "logs" / f"soak-{seed}-{now():%Y%m%d-%H%M%S}"
    shutil.copytree(plane.processes.logs, target)
    write_spells(target / SPELLS, case.spells)
    (target / "verdict.txt").write_text("\n\n".join(said) + "\n", encoding="utf-8")
    return target
