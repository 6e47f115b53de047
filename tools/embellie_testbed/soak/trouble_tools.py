# SPDX-License-Identifier: Apache-2.0
"""What acts of trouble are made with."""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

from embellie_testbed.soak.site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One kind of trouble."""

    name: str
    about: str
    """Acts about the same thing are never under way together."""
    weight: float
    do: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Tools:
    """A site, dice, and a wait that ends when the soak does."""

    site: Site
    rng: random.Random
    stop: threading.Event

    def wait(self, least_s: float, most_s: float) -> None:
        """Leave things as they are for a while."""
        self.stop.wait(self.rng.uniform(least_s, most_s))

    def kubectl(self, *arguments: str, check: bool = True) -> str:
        """Run kubectl as an administrator."""
        return self.site.plane.kubectl(*arguments, check=check)
