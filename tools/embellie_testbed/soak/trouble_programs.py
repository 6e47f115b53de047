# SPDX-License-Identifier: Apache-2.0
"""Trouble with programs: killed, frozen, started again, slow."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator

from embellie_testbed.soak.site import Post
from embellie_testbed.soak.spells import Part
from embellie_testbed.soak.trouble_tools import Act, Tools

_BURST_S = 0.4
"""How long a slow program stands still at a time, and half as long it goes on [s]."""
_ABSENCE_S = (50.0, 62.0)
"""Longer than the watchdog may take, its tolerance included."""


def program_acts(tools: Tools) -> list[Act]:
    """Return what can befall programs."""
    programs = Programs(tools)
    kinds: list[tuple[str, str, float, Callable[[], None]]] = [
        ("operator killed", "operator", 3, lambda: programs.killed(signal.SIGKILL)),
        ("operator told to stop", "operator", 2, lambda: programs.killed(signal.SIGTERM)),
        ("operator frozen", "operator", 2, programs.frozen),
        ("all operators away for long", "operator", 2, programs.away),
        ("watchdog killed", "watchdog", 2, programs.watchdog_killed),
        ("watchdog frozen", "watchdog", 1, programs.watchdog_frozen),
        ("operator and watchdog killed", "operator", 1, programs.both_killed),
        ("Prometheus started again", "prometheus", 1, programs.prometheus_restarted),
        ("Prometheus hangs", "prometheus", 1, programs.prometheus_hangs),
        ("Prometheus gone", "prometheus", 1, programs.prometheus_gone),
        ("API server stopped", "api", 1, programs.api_stopped),
        ("API server frozen", "api", 1, lambda: programs.api_still("kube-apiserver")),
        ("etcd frozen", "api", 1, lambda: programs.api_still("etcd")),
        ("API server slow", "api", 1, lambda: programs.api_slow("kube-apiserver")),
        ("etcd slow", "api", 1, lambda: programs.api_slow("etcd")),
    ]
    return [Act(name=name, about=about, weight=weight, do=do) for name, about, weight, do in kinds]


class Programs:
    """Acts on processes."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._site = tools.site

    @contextlib.contextmanager
    def _nobody(self, why: str, posts: list[Post]) -> Iterator[None]:
        """Note that operators cannot act; none is left to when these are all of them."""
        with contextlib.ExitStack() as spells:
            spells.enter_context(self._site.journal.spell(why, Part.OPERATOR))
            if len(posts) == len(self._site.operators):
                spells.enter_context(self._site.journal.spell(why, Part.GONE, settle_s=0.0))
            yield

    def _man(self, posts: list[Post]) -> None:
        """Start processes, and wait until they are at work."""
        for post in posts:
            self._site.start(post)
        for post in posts:
            self._site.wait_until_at_work(post)

    def killed(self, number: int) -> None:
        """End one operator, and start it again after a while."""
        post = self._tools.rng.choice(self._site.operators)
        with self._nobody("killed", [post]):
            self._site.stop(post, number)
            self._tools.wait(0.0, 12.0)
            self._man([post])

    def frozen(self) -> None:
        """Let one operator stand still."""
        post = self._tools.rng.choice(self._site.operators)
        with self._nobody("frozen", [post]), self._still(post):
            self._tools.wait(2.0, 25.0)

    def away(self) -> None:
        """Have no operator for longer than the watchdog waits, killed or frozen."""
        posts, freeze = self._site.operators, self._tools.rng.random() < 0.4
        with self._nobody("frozen for long" if freeze else "killed for long", posts), contextlib.ExitStack() as still:
            for post in posts:
                if freeze:
                    still.enter_context(self._still(post))
                else:
                    self._site.stop(post, signal.SIGKILL)
            self._tools.wait(*_ABSENCE_S)
            if not freeze:
                self._man(posts)

    def watchdog_killed(self) -> None:
        """End the watchdog, and start it again after a while."""
        with self._site.journal.spell("killed", Part.WATCHDOG):
            self._site.stop(self._site.watchdog, signal.SIGKILL)
            self._tools.wait(0.0, 15.0)
            self._man([self._site.watchdog])

    def watchdog_frozen(self) -> None:
        """Let the watchdog stand still."""
        with self._site.journal.spell("frozen", Part.WATCHDOG), self._still(self._site.watchdog):
            self._tools.wait(2.0, 15.0)

    def both_killed(self) -> None:
        """Have neither for a while."""
        everyone = self._site.posts
        with self._site.journal.spell("killed too", Part.WATCHDOG), self._nobody("killed too", self._site.operators):
            for post in everyone:
                self._site.stop(post, signal.SIGKILL)
            self._tools.wait(1.0, 15.0)
            self._man(everyone)

    def prometheus_restarted(self) -> None:
        """Start Prometheus again, without its past."""
        self._site.restart_prometheus(self._tools.rng.choice((signal.SIGKILL, signal.SIGTERM)))

    def prometheus_hangs(self) -> None:
        """Let Prometheus answer nothing in time."""
        self._site.relay.hang = True
        try:
            self._tools.wait(3.0, 15.0)
        finally:
            self._site.relay.hang = False
            self._site.relay.freed.set()

    def prometheus_gone(self) -> None:
        """Let nobody listen where Prometheus was."""
        self._site.relay.leave()
        try:
            self._tools.wait(3.0, 15.0)
        finally:
            self._site.relay.come_back()

    def api_stopped(self) -> None:
        """Stop the API server, and start it again."""
        with self._site.journal.spell("API server stopped", Part.API):
            self._site.plane.stop_apiserver()
            self._tools.wait(0.0, 10.0)
            self._site.plane.start_apiserver()

    def api_still(self, name: str) -> None:
        """Let the API server or etcd stand still."""
        with self._site.journal.spell(f"{name} frozen", Part.API), self._frozen(name):
            self._tools.wait(1.0, 9.0)

    def api_slow(self, name: str) -> None:
        """Let the API server or etcd go on in fits and starts."""
        with self._site.journal.spell(f"{name} slow", Part.API, settle_s=5.0):
            for _ in range(self._tools.rng.randint(5, 20)):
                with self._frozen(name):
                    time.sleep(_BURST_S)
                time.sleep(_BURST_S / 2)

    @contextlib.contextmanager
    def _still(self, post: Post) -> Iterator[None]:
        name = post.program.name if post.program is not None else ""
        with self._frozen(name):
            yield

    @contextlib.contextmanager
    def _frozen(self, name: str) -> Iterator[None]:
        self._site.plane.processes.signal(name, signal.SIGSTOP)
        try:
            yield
        finally:
            self._site.plane.processes.signal(name, signal.SIGCONT)
