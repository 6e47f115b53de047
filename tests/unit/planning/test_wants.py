# SPDX-License-Identifier: Apache-2.0
"""What starts are credited for wanted power, beside a sum slot by slot."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from snapshots import workload_at

from embellie.planning.axis.timegrid import TimeGrid
from embellie.planning.axis.wants import Want, Wants

ORIGIN = datetime(2026, 6, 14, tzinfo=UTC)
SLOTS = 30


def want(rng: np.random.Generator, name: str, share: list[float], *, on_site: bool) -> Want:
    return Want(
        name=name,
        on_site=on_site,
        kw=rng.uniform(-3.0, 9.0, (3, SLOTS)),
        g_per_kwh=rng.uniform(0.0, 400.0, (3, SLOTS)),
        share=np.array(share),
    )


def wants(seed: int, phase: float) -> tuple[list[Want], TimeGrid]:
    rng = np.random.default_rng(seed)
    grid = TimeGrid(origin=ORIGIN, step_s=3600.0, now=ORIGIN + timedelta(hours=phase))
    rows = [
        want(rng, "on-site/a", [1.0, 1.25, 0.0, 0.0], on_site=True),
        want(rng, "on-site/b", [0.0, 0.0, 1.0, 0.0], on_site=True),
        want(rng, "heat/a", [0.0, 1.0, 1.0, 0.0], on_site=False),
    ]
    return rows, grid


@pytest.mark.parametrize("hours", [0.1, 0.4, 1.0, 2.75, 6.0])
@pytest.mark.parametrize("phase", [0.0, 0.4])
def test_a_start_is_credited_with_what_each_slot_of_its_run_spares(hours: float, phase: float) -> None:
    rows, grid = wants(3, phase)
    kept = Wants(rows, grid, SLOTS, 4)
    before = workload_at(grid.now, "first", power_kw=2.0, duration_p50_s=5.5 * 3600.0)
    kept.serve(before, 1, 3)
    job = workload_at(grid.now, "job", power_kw=4.0, duration_p50_s=hours * 3600.0)
    for on_site in (True, False):
        found = kept.spared_g(job, [3, 1, 2, 0], 20, on_site=on_site)
        assert found is not None
        assert found.shape == (3 if on_site else 1, 4, 21)
        for case in range(found.shape[0]):
            for i, cell in enumerate([3, 1, 2, 0]):
                for start in range(21):
                    begin = max(float(start), phase)
                    expected = 0.0
                    for row in (row for row in rows if row.on_site == on_site and row.share[cell] > 0.0):
                        for slot in range(SLOTS):
                            used = 2.0 * row.share[1] * (min(8.5, slot + 1.0) - min(8.5, max(3.0, float(slot))))
                            short = row.kw[case, slot] - (used if slot >= 3 else 0.0)
                            inside = min(begin + hours, slot + 1.0) - max(begin, float(slot))
                            kw = min(max(short, 0.0), 4.0 * row.share[cell])
                            expected += max(inside, 0.0) * kw * row.g_per_kwh[case, slot]
                    assert found[case, i, start] == pytest.approx(expected, abs=2e-6), (on_site, case, cell, start)


def test_what_nobody_lacks_any_more_and_cells_that_serve_nobody_are_credited_with_nothing() -> None:
    rows, grid = wants(4, 0.0)
    job = workload_at(grid.now, "job", power_kw=4.0, duration_p50_s=3600.0)
    kept = Wants(rows, grid, SLOTS, 4)
    assert kept.spared_g(job, [3], 20, on_site=True) is None
    for start in range(SLOTS):
        kept.serve(workload_at(grid.now, "large", power_kw=50.0, duration_p50_s=3600.0), 0, start)
    assert kept.spared_g(job, [0, 1], 20, on_site=True) is None
    assert kept.spared_g(job, [1], 20, on_site=False) is not None


def test_two_sites_in_one_cell_are_refused() -> None:
    rows, grid = wants(5, 0.0)
    with pytest.raises(ValueError, match="one site at most"):
        Wants([*rows, rows[0]], grid, SLOTS, 4)
