# SPDX-License-Identifier: Apache-2.0
"""Trouble that administrators make: policies, the switch, leases, rights, plans, upgrades, releases of everything."""

import json
import subprocess
from collections.abc import Callable

from embellie_testbed.paths import CHART
from embellie_testbed.product import NAMESPACE, RELEASE, program
from embellie_testbed.soak.site import LONGEST_DELAY_S, TEAMS, policy
from embellie_testbed.soak.spells import Part
from embellie_testbed.soak.trouble_tools import Act, Tools


def object_acts(tools: Tools) -> list[Act]:
    """Return what administrators do."""
    people = People(tools)
    kinds: list[tuple[str, str, float, Callable[[], None]]] = [
        ("policy changed", "policies", 3, people.policy_changed),
        ("policy in shadow", "policies", 2, people.policy_in_shadow),
        ("policy deleted", "policies", 1, people.policy_deleted),
        ("switch flipped", "switch", 2, people.switch_flipped),
        ("switch locked", "switch", 1, people.switch_locked),
        ("switch deleted", "switch", 0.5, people.switch_deleted),
        ("leases deleted", "leases", 2, people.leases_deleted),
        ("operator without rights", "operator", 1, people.operator_without_rights),
        ("watchdog without rights", "watchdog", 1, people.watchdog_without_rights),
        ("plans deleted", "plans", 1, people.plans_deleted),
        ("release --all", "switch", 1, people.release_all),
        ("helm upgrade", "switch", 0.5, people.upgraded),
    ]
    return [Act(name=name, about=about, weight=weight, do=do) for name, about, weight, do in kinds]


class People:
    """Acts on policies, the switch, leases and rights."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._site = tools.site

    def policy_changed(self) -> None:
        """Change how long, how much and how often, and leave it so."""
        rng = self._tools.rng
        self._site.apply(
            policy(
                rng.choice(TEAMS),
                maxDelaySeconds=rng.choice((0, 10, 30, 60, 60, LONGEST_DELAY_S, LONGEST_DELAY_S)),
                maxHeldPercent=rng.choice((*[100] * 8, 30, 0)),
                maxPausesPerDay=rng.choice((50, 50, 1, 0)),
                minimumSavingPercent=rng.choice((0, 2, 20)),
            )
        )

    def policy_in_shadow(self) -> None:
        """Let a policy watch only, and enforce again."""
        team = self._tools.rng.choice(TEAMS)
        self._site.apply(policy(team, mode="shadow"))
        self._tools.wait(3.0, 20.0)
        self._site.insist(lambda: self._site.apply(policy(team)))

    def policy_deleted(self) -> None:
        """Delete a policy, and make it again."""
        team = self._tools.rng.choice(TEAMS)
        self._tools.kubectl("delete", "energypolicy", team, "--wait=false")
        self._tools.wait(3.0, 15.0)
        self._site.insist(lambda: self._site.apply(policy(team)))

    def switch_flipped(self) -> None:
        """Write in the switch what the operator would not."""
        word = self._tools.rng.choice(
            ('"enabled":"false"', '"enabled":"true"', '"enabled":"perhaps"', '"namespaces":","')
        )
        self._patch_switch(word)

    def switch_locked(self) -> None:
        """Lock the switch, and unlock it."""
        self._patch_switch('"locked":"true"')
        self._tools.wait(3.0, 15.0)
        self._site.insist(lambda: self._patch_switch('"locked":"false"'))

    def switch_deleted(self) -> None:
        """Delete the switch, and make it again as the chart does."""
        self._tools.kubectl("delete", "configmap", f"{RELEASE}-switch", "-n", NAMESPACE)
        self._tools.wait(3.0, 15.0)
        self._site.insist(self.upgraded)

    def leases_deleted(self) -> None:
        """Delete one or all of the leases."""
        names = [f"{RELEASE}-{which}" for which in ("leader", "heartbeat", "watchdog")]
        chosen = self._tools.rng.sample(names, self._tools.rng.randint(1, 3))
        with self._site.journal.spell("leases deleted", Part.OPERATOR, Part.WATCHDOG):
            self._tools.kubectl("delete", "leases", *chosen, "-n", NAMESPACE, "--ignore-not-found")

    def operator_without_rights(self) -> None:
        """Take the operator's binding away, and give it back."""
        name = f"{RELEASE}-operator"
        with self._site.journal.spell("without rights", Part.OPERATOR):
            self._without("clusterrolebinding", name, 5.0, 62.0, gone=True)

    def watchdog_without_rights(self) -> None:
        """Take the watchdog's binding away, and give it back."""
        with self._site.journal.spell("without rights", Part.WATCHDOG):
            self._without("clusterrolebinding", f"{RELEASE}-watchdog", 5.0, 20.0)

    def plans_deleted(self) -> None:
        """Delete all plans of a team."""
        self._tools.kubectl("delete", "workloadplans", "--all", "-n", self._tools.rng.choice(TEAMS), "--wait=false")

    def release_all(self) -> None:
        """Release everything with the command."""
        argv = [program("embellie"), "release", "--all", "--release-seconds=5"]
        subprocess.run(argv, env=self._site.plane.environment(), capture_output=True, check=False, timeout=120)

    def upgraded(self) -> None:
        """Upgrade to the same version."""
        self._site.plane.helm("upgrade", RELEASE, CHART, "-n", NAMESPACE, "--reset-then-reuse-values", "--no-hooks")

    def _patch_switch(self, word: str) -> None:
        change = f'{{"data":{{{word}}}}}'
        self._tools.kubectl("patch", "configmap", f"{RELEASE}-switch", "-n", NAMESPACE, "--type=merge", "-p", change)

    def _without(self, kind: str, name: str, least_s: float, most_s: float, *, gone: bool = False) -> None:
        found = json.loads(self._tools.kubectl("get", kind, name, "-o", "json"))
        for noise in ("resourceVersion", "uid", "creationTimestamp", "managedFields"):
            found["metadata"].pop(noise, None)
        parts = (Part.GONE,) if gone else ()
        with self._site.journal.spell(f"{name} without rights", *parts, settle_s=0.0):
            self._tools.kubectl("delete", kind, name)
            self._tools.wait(least_s, most_s)
            self._site.insist(lambda: self._site.apply(found))
