# SPDX-License-Identifier: Apache-2.0
"""`embellie thermal fit --zone`: a ThermalZone from what Prometheus remembers of it."""

import time

import click
import numpy as np

from embellie.api.thermalzone import ThermalZone
from embellie.cli.session import Where
from embellie.cli.thermal_data import DataError
from embellie.cli.thermal_fit import Outcome, judge_margins, one_by_one
from embellie.control.assembly.zone_settings import settings_of
from embellie.control.heat.identify import STEP_S, predicted, read_history, read_power, replay
from embellie.domain import names
from embellie.telemetry.tables import PrometheusTables, QueryError
from embellie.thermal.controller import HeatController
from embellie.thermal.settings import Role
from embellie.watchdog.api import Api, ApiError

WARM_UP = 240
"""Rows that the model learns from before it is judged: hours, as a zone needs."""


def fit_zone(where: Where, name: str, prometheus_url: str | None, hours: int) -> Outcome:
    """Learn one zone from its sensors' past; raises DataError in words."""
    if not prometheus_url:
        raise DataError("--zone needs --prometheus-url (or EMBELLIE_PROMETHEUS_URL): the sensors' past is there")
    zone, nodes = _read_zone(where.api(), name)
    settings = settings_of(zone)
    end = time.time() // STEP_S * STEP_S
    grid = np.arange(end - hours * 3600.0, end + 1.0, STEP_S)
    tables = PrometheusTables(prometheus_url)
    queries = {s.name: s.query for s in zone.spec.sensors or ()}
    try:
        power = read_power(tables, grid)
        history = read_history(settings, queries, power, nodes, tables, grid)
    except QueryError as error:
        raise DataError(str(error)) from error
    role = settings.limited_role
    if role not in history.roles or not np.isfinite(history.roles[role]).any():
        raise DataError(f"the {role} sensors of {name} gave no number in the last {hours} h: try their queries")
    if not np.isfinite(history.heat_kw).any():
        raise DataError(
            f"no power of the {len(nodes)} nodes of {name} was found: exporters must label it with the node's name "
            "(docs/thermal-setup.md)"
        )
    outcome = Outcome(schema="zone", rows_fit=int(np.isfinite(history.roles[role]).sum()), step_s=STEP_S)
    outcome.parameters["temperature"] = f"{role} temperature, one step ahead"
    outcome.parameters["validation"] = "each row predicted before it is learnt"
    pairs = predicted([settings], history)[WARM_UP:]
    if not len(pairs):
        raise DataError(f"fewer than {WARM_UP} rows have temperature, supply and power together: raise --hours")
    outcome.rows_test = len(pairs)
    outcome.die_c.append(pairs)
    judge_margins(outcome, [], one_by_one([pairs[:, 0] - pairs[:, 1]]))
    learnt = HeatController([settings])
    replay(learnt, {name: history})
    outcome.parameters["zone"] = _parameters(learnt, name) | {"supply_known": float(Role.SUPPLY in history.roles)}
    return outcome


def _read_zone(api: Api, name: str) -> tuple[ThermalZone, list[str]]:
    """Return a zone and the names of its nodes."""
    try:
        zone = ThermalZone.parse(api.get(f"/apis/{names.API_VERSION}/thermalzones/{name}"))
    except ApiError as error:
        if error.status != 404:
            raise
        raise click.ClickException(f"there is no ThermalZone {name!r}; see kubectl get thermalzones") from error
    selector = ",".join(f"{k}={v}" for k, v in sorted(zone.spec.node_selector.items()))
    return zone, [item["metadata"]["name"] for item in api.list("/api/v1/nodes", labelSelector=selector)]


def _parameters(learnt: HeatController, name: str) -> dict[str, float]:
    model = learnt.models.heat_models()[name]
    return {
        "rise_mk_per_kw": round(1e3 * model.own_k_per_kw, 2),
        "rise_se_mk_per_kw": round(1e3 * model.own_sd_k_per_kw, 2),
        "offset_k": round(model.offset_k, 2),
        "tau_s": model.tau_s,
        "margin_k": round(model.margin_k, 2),
        "trusted": float(model.trusted),
    }
