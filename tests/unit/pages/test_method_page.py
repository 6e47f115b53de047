# SPDX-License-Identifier: Apache-2.0
"""The page by which an auditor recomputes a figure names the factors that the code uses."""

from embellie_forecast.factors import DIRECT_EIA, LIFECYCLE_AR5, SOURCES, FactorSet
from embellie_testbed.paths import REPOSITORY


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("| ").split("|")]


def test_the_factors_on_the_page_are_those_in_the_code() -> None:
    lines = (REPOSITORY / "docs" / "method.md").read_text(encoding="utf-8").splitlines()
    (head,) = (line for line in lines if line.startswith("| factors |"))
    assert cells(head)[1:] == list(SOURCES)

    def told(factors: FactorSet) -> list[float]:
        (row,) = (line for line in lines if line.startswith(f"| `{factors.name}` |"))
        return [float(cell) for cell in cells(row)[1:]]

    for factors in (LIFECYCLE_AR5, DIRECT_EIA):
        assert told(factors) == [factors.grams_per_kwh[source] for source in SOURCES]
