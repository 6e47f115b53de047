# SPDX-License-Identifier: Apache-2.0
"""What a closed interval's accounts are as metrics."""

from collections.abc import Sequence

from embellie.domain.reasons import SignalKind
from embellie.ledger import Draft
from embellie.telemetry.metrics import accounts as told


def count_accounts(drafts: Sequence[Draft]) -> None:
    """Tell the metrics of an interval."""
    zones, namespaces = [], []
    for draft in drafts:
        adds = draft.body["adds"]
        kwh = adds["kwh"]
        parts = {
            "workloads": kwh["jobs"],
            "idle": kwh["idle"],
            "overhead": kwh["overhead"],
            "unexplained": kwh["unexplained"],
        }
        it_kwh = kwh["jobs"] + kwh["idle"]
        zones.append(
            told.ZoneInterval(
                zone=draft.body["zone"],
                # A counter cannot go down: what parts say beyond the meter shows in the ledger and in reports.
                joules={name: max(0.0, value) * 3.6e6 for name, value in parts.items()},
                grams={SignalKind(kind): grams for kind, grams in adds["grams"].items()},
                embodied_grams=adds["embodiedG"],
                # Where nothing was drawn, nothing was estimated: an empty zone is no alarm.
                covered_ratio=1.0 - kwh["estimated"] / it_kwh if it_kwh > 0.0 else 1.0,
            )
        )
        for name, row in adds["namespaces"].items():
            namespaces.append(
                told.NamespaceInterval(
                    namespace=name,
                    joules=(row["dynamicKwh"] + row["idleKwh"] + row["overheadKwh"]) * 3.6e6,
                    grams={SignalKind(kind): grams for kind, grams in row["grams"].items()},
                    gpu_seconds=row["gpuSeconds"],
                )
            )
    told.count_interval(zones, namespaces)
