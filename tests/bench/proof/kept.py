# SPDX-License-Identifier: Apache-2.0
"""Weeks drawn on several processors and kept in a file, so that hours of them can be drawn in parts."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from embellie.accounting.ranges import Range
from embellie.accounting.savings import METHOD
from proof.weeks import TRUTHS, Outcome, draw


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A week, what was drawn of it, and the processor time that took [s]."""

    seed: int
    outcome: Outcome
    cpu_s: float


def drawn(load: str, seeds: Sequence[int], *, processes: int | None = None, kept: Path | None = None) -> list[Drawn]:
    """Return one week for each seed; those that the file holds are not drawn again.

    The file is good for the code that wrote it: another version of the method, or another number of worlds, is refused
    with a SystemExit; every other change of the code is for the caller to know. A line that was cut off is drawn anew.
    """
    found = {week.seed: week for week in _read(kept, load)} if kept is not None and kept.exists() else {}
    for week in _draw([seed for seed in seeds if seed not in found], load, processes):
        found[week.seed] = week
        if kept is not None:
            with kept.open("a", encoding="utf-8") as out:
                out.write(json.dumps({"method": METHOD, "load": load, **asdict(week)}) + "\n")
    return [found[seed] for seed in seeds]


def share_held(shares: Sequence[float]) -> tuple[float, float]:
    """Return the mean of weeks' shares of truths that their intervals hold, and its standard error, in per cent."""
    found = 100.0 * np.array(shares, dtype=np.float64)
    return float(found.mean()), float(found.std() / np.sqrt(found.size))


def _draw(seeds: Sequence[int], load: str, processes: int | None) -> Iterator[Drawn]:
    if processes == 1:
        yield from (_one(seed, load) for seed in seeds)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(_one, seeds, [load] * len(seeds))


def _one(seed: int, load: str) -> Drawn:
    before = time.process_time()
    outcome = draw(seed, load)
    return Drawn(seed=seed, outcome=outcome, cpu_s=time.process_time() - before)


def _read(path: Path, load: str) -> Iterable[Drawn]:
    whole, _, cut_off = path.read_text(encoding="utf-8").rpartition("\n")
    if cut_off:
        path.write_text(f"{whole}\n" if whole else "", encoding="utf-8")
    for line in whole.splitlines():
        row = json.loads(line)
        if row["method"] != METHOD:
            raise SystemExit(f"{path} holds weeks of {row['method']}, and this is {METHOD}: name another file")
        if row["load"] == load:
            told, worlds = row["outcome"], 1 if load == "saturated" else TRUTHS
            if len(told["truths_g"]) != worlds:
                raise SystemExit(
                    f"{path} holds weeks of {len(told['truths_g'])} worlds, not {worlds}: name another file"
                )
            outcome = Outcome(**{**told, "truths_g": tuple(told["truths_g"]), "said": Range(**told["said"])})
            yield Drawn(seed=row["seed"], outcome=outcome, cpu_s=row["cpu_s"])
