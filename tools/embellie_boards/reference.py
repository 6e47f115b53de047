# SPDX-License-Identifier: Apache-2.0
"""docs/reference/metrics.md, from the metrics' own declarations."""

from embellie.telemetry.metrics import Kind, Metric, Topic, catalogue

_HEAD = """# Metrics

<!-- Written by `python -m embellie_boards` from operator/embellie/telemetry/metrics/. Do not edit. -->

Each operator pod answers at port 8080, `/metrics`; the Service `embellie-metrics` finds them, and
`serviceMonitor.enabled=true` tells the Prometheus operator. Only the leader acts, so only the leader shows zones and
work: the others say `embellie_leader 0` and count their own processes. A gauge of a zone that is deleted is gone at the
next scrape.

Units are Prometheus' base units, and the name ends with the unit. Two exceptions follow the trade: carbon intensity is
in grams per kilowatt hour, and GPUs and workloads are counts. Counters start at 0 with each leader: use `rate` or
`increase`. The namespace of a workload is the label `workload_namespace`, because scrapers overwrite `namespace`.

In a quiet cluster the numbers are renewed at least every fourth turn: once a minute by default.

To alert on them: `prometheusRule.enabled=true`, or the rules in `charts/embellie/files/rules/`;
each alert has a page in [Runbooks](../runbooks/README.md). To look at them: [Boards](../dashboards.md).
"""

_LABELS = {
    "state": "[states](reasons.md): `Held`, `HeldByLimit`, `Released`, `Shadow`, `HandedOff`; of a thermal zone "
    "`Normal`, `Limited`, `OverLimit`, `Unknown`",
    "reason": "[reasons](reasons.md)",
    "zone": "a GridZone, in `embellie_thermal_*` a ThermalZone; `_all_` in savings is the cluster, `(no zone)` in "
    "energy the nodes with GPUs that no GridZone selects",
    "signal_kind": "`AverageLifecycle`, `AverageDirect`, `Marginal`; never add two kinds",
    "rung": "`Live`, `LastGood`, `Calendar`, `Climatology`, `Neutral`, `None`",
    "lead_hours": "how far ahead a forecast looks [h]",
    "level": "a quantile: of a forecast, or of all that is held",
    "result": "`Conflict`: another writer was faster; `Denied`: the API server refuses (RBAC, an admission policy, a "
    "quota) and somebody must look; `Unreachable`: it did not answer",
    "outcome": "of a turn: `complete`, `api_error`, `error`",
    "part": "of a turn: `whole`, `plan`, `release`; of energy: `workloads`, `idle`, `overhead`, `unexplained`",
    "workload_namespace": "a namespace; `_other_` for all past the first 500",
}

_TAIL = """
## How many series

The number of series grows with zones (about 100 each), reasons (about 60 in all) and namespaces (at most 501, five
series each), never with workloads. `--workload-metrics` (chart: `workloadMetrics: true`) adds one series for each held
workload.

The process metrics `process_*` are those of every Prometheus client.

The watchdog has no metrics. It writes one JSON object a line to its log, and answers `/healthz` and `/readyz` at port
8081.
"""


def metrics_page() -> str:
    """Return the page."""
    parts = [_HEAD]
    for topic in Topic:
        found = [m for m in catalogue().values() if m.topic is topic]
        parts.append(f"\n## {topic}\n\n| metric | type | unit | labels | meaning |\n| --- | --- | --- | --- | --- |\n")
        parts.extend(_row(metric) for metric in found)
    parts.append("\n## Values of labels\n\n| label | values |\n| --- | --- |\n")
    parts.extend(f"| `{label}` | {values} |\n" for label, values in _LABELS.items())
    return "".join(parts) + _TAIL


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    kind = "histogram" if metric.kind is Kind.HISTOGRAM else str(metric.kind)
    return f"| `{metric.name}` | {kind} | {metric.unit} | {labels} | {metric.help} |\n"
