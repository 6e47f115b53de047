# SPDX-License-Identifier: Apache-2.0
"""Trouble at random: what it disturbs, and for how long, goes into the journal; each act mends what it broke."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from embellie_testbed.controlplane import CommandError
from embellie_testbed.processes import ProgramError
from embellie_testbed.soak.site import UNANSWERED, Site
from embellie_testbed.soak.trouble_cluster import cluster_acts
from embellie_testbed.soak.trouble_objects import object_acts
from embellie_testbed.soak.trouble_programs import program_acts
from embellie_testbed.soak.trouble_tools import Act, Tools

_KINDS: dict[str, Callable[[Tools], list[Act]]] = {
    "programs": program_acts,
    "cluster": cluster_acts,
    "objects": object_acts,
}
KINDS = tuple(_KINDS)
_PAUSE_S = {"programs": (5.0, 25.0)}
"""From one act to the next, where it is not usual: with no operator ever at rest there would be little to judge [s]."""


class Trouble:
    """Makes trouble of each kind, in a thread each; what touches the same part waits for its turn."""

    def __init__(self, site: Site, seed: str) -> None:
        self._site = site
        self._seed = seed
        self._locks: dict[str, threading.Lock] = {}
        self.done: list[str] = []
        self.faults: list[str] = []
        """Where an act of ours could not be carried out: a fault of the soak, told apart from those of the product."""

    def run(self, stop: threading.Event, kind: str) -> None:
        """Do one thing of a kind after the other until told to stop; what was broken then is mended first."""
        rng = random.Random(f"{self._seed}/{kind}")
        acts = _KINDS[kind](Tools(self._site, rng, stop))
        while not stop.wait(rng.uniform(*_PAUSE_S.get(kind, (1.0, 10.0)))):
            act = rng.choices(acts, [act.weight for act in acts])[0]
            with self._alone(act, rng) as free:
                if free:
                    self._do(act)

    def _do(self, act: Act) -> None:
        self.done.append(act.name)
        try:
            act.do()
        except (*UNANSWERED, CommandError) as error:
            # Another act took the API server away in the middle of this one, as it happens to administrators.
            self.faults.append(f"{act.name}: {str(error)[:200]}")
        except (ProgramError, TimeoutError) as error:
            self.faults.append(f"{act.name}: {str(error)[:2000]}")

    @contextmanager
    def _alone(self, act: Act, rng: random.Random) -> Iterator[bool]:
        lock = self._locks.setdefault(act.about, threading.Lock())
        free = lock.acquire(timeout=rng.uniform(0.0, 2.0))
        try:
            yield free
        finally:
            if free:
                lock.release()
