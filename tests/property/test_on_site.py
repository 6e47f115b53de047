# SPDX-License-Identifier: Apache-2.0
"""Whatever plants' meters say, no more is used than was delivered and drawn, and emissions close."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embellie.accounting.interval import account_interval
from embellie.accounting.known import Gang, Machine, Plant, Price, Samples, Stay, ZoneInterval
from embellie.accounting.onsite import OnSite
from embellie.domain.reasons import SignalKind

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
WATTS = st.floats(-2e5, 2e5) | st.just(float("nan")) | st.just(50_000.0)
SERIES = st.lists(st.tuples(st.floats(-300, 1200), WATTS), max_size=25)
PEAK_KW = 100.0


def made(name: str, kind: str, series: list[tuple[float, float]]) -> Plant:
    at_s, watts = (tuple(row[k] for row in series) for k in (0, 1))
    meter = Samples(at_s=tuple(T0.timestamp() + at for at in at_s), values=watts)
    return Plant(name=name, kind=kind, peak_kw=PEAK_KW, meter=meter)


def interval(plants: tuple[Plant, ...], meter_kw: float | None, g: float) -> ZoneInterval:
    start_s = T0.timestamp()
    at = tuple(start_s + 60.0 * k for k in range(-4, 20))
    stays = [
        Stay(node="n", gpus=gpus, start_s=start_s + a, end_s=start_s + b) for gpus, a, b in ((4, 0, 900), (2, 90, 500))
    ]
    return ZoneInterval(
        zone="west", start=T0, end=T0 + timedelta(minutes=15), gpus=(), plants=plants,
        machines=(Machine(
            name="n", gpus=8, idle_w=3200.0, gpu_idle_w=140.0, host_share=0.03,
            power=Samples(at_s=at, values=(5300.0,) * len(at)),
        ),),
        gangs=tuple(
            Gang(uid=str(k), namespace=f"ns{k}", name=str(k), stays=(stay,), watts_per_gpu=600.0)
            for k, stay in enumerate(stays)
        ),
        meter=Samples() if meter_kw is None else Samples(at_s=at, values=(1000.0 * meter_kw,) * len(at)),
        prices=tuple(
            Price(kind=kind, g_per_kwh=g, quality="measured", source="x")
            for kind in (SignalKind.AVERAGE_LIFECYCLE, SignalKind.AVERAGE_DIRECT)
        ),
    )  # fmt: skip


@settings(deadline=None)
@given(SERIES, SERIES, st.none() | st.floats(0, 150), st.floats(0, 1500))
def test_whatever_the_meters_say_no_more_is_used_than_delivered_and_drawn_and_the_grams_close(
    roof: list[tuple[float, float]], mill: list[tuple[float, float]], meter_kw: float | None, g: float
) -> None:
    body = account_interval(interval((made("roof", "Solar", roof), made("mill", "Wind", mill)), meter_kw, g))
    adds = body["adds"]
    drawn = adds["kwh"]["facility"]
    delivered = sum(row["deliveredKwh"] for row in adds["onSite"].values())
    used = sum(row["usedKwh"] for row in adds["onSite"].values())
    assert 0.0 <= used <= min(delivered, drawn) + 1e-9
    assert all(
        0.0 <= row["deliveredKwh"] <= PEAK_KW * row["coveredSeconds"] / 3600 + 1e-9 for row in adds["onSite"].values()
    )
    assert all(row["coveredSeconds"] <= 900 + 1e-6 for row in adds["onSite"].values())
    grid = account_interval(interval((), meter_kw, g))["adds"]
    for kind, low in (("AverageLifecycle", min(g, 11.0)), ("AverageDirect", 0.0)):
        grams, spared = adds["grams"][kind], adds.get("sparedGrams", {}).get(kind, 0.0)
        assert low * drawn - 1e-6 <= grams <= max(g, 45.0) * drawn + 1e-6
        assert grams + spared == pytest.approx(grid["grams"][kind], abs=1e-6)
        # Runs, what nobody reserved with its cooling, and what no part explains: the zone's.
        rows = adds["workloads"].values()
        kwh = [row["dynamicKwh"] + row["idleKwh"] + row["overheadKwh"] for row in rows]
        base_g = (grams / drawn if drawn else g) * (drawn - sum(kwh))
        assert sum(row["grams"][kind] for row in rows) + base_g == pytest.approx(grams, abs=1e-6)
        assert sum(row["grams"][kind] for row in adds["namespaces"].values()) == pytest.approx(
            sum(row["grams"][kind] for row in rows)
        )


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 50), st.floats(-5, 50), st.floats(0, 900)), min_size=1, max_size=8))
def test_what_use_on_the_site_takes_off_never_exceeds_what_was_delivered_or_drawn(
    slots: list[tuple[float, float, float]],
) -> None:
    delivered, drawn, ci = (np.array([[row[k] for row in slots]]) for k in range(3))
    own = OnSite(kwh=delivered, g_per_kwh=np.full_like(delivered, 45.0))
    most = np.minimum(delivered, np.maximum(drawn, 0.0))
    spared = own.spared_g(drawn, ci)
    assert (np.abs(spared) <= np.abs(ci - 45.0) * most + 1e-9).all()
    if len(slots) > 1:
        # Moving draw from one slot to another changes what is spared by no more than what was moved.
        moved = drawn.copy()
        moved[0, 0] += 1.0
        more = np.abs(own.spared_g(moved, ci) - spared).sum()
        assert more <= abs(ci[0, 0] - 45.0) + 1e-9
