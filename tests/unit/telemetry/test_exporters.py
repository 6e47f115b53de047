# SPDX-License-Identifier: Apache-2.0
"""Whatever an exporter calls things, the same machine gives the same measurements."""

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from embellie.telemetry.exporters import Measurement, Series, measurements, selector, vocabulary

FIXTURES = Path(__file__).parent / "exporters"
DCGM = ("dcgm-4.8.2", "dcgm-4.8.3", "dcgm-4.9.0", "dcgm-4.9.0-scraped", "dcgm-percent-ratio")


def parse_text(text: str) -> tuple[Series, ...]:
    """Read an exporter's own text format, as Prometheus would store it."""
    # The parser gives counters the ending that OpenMetrics asks for; here the exporter's own name counts.
    known = {word.metric for word in vocabulary()}
    return tuple(
        Series(
            metric=sample.name if sample.name in known else sample.name.removesuffix("_total"),
            labels=dict(sample.labels),
            value=float(sample.value),
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    )


def said(*names: str) -> dict[tuple[str, str], Measurement]:
    series = [one for name in names for one in parse_text((FIXTURES / f"{name}.prom").read_text(encoding="utf-8"))]
    return {(m.quantity, m.device): m for m in measurements(series)}


def values(name: str, *quantities: str) -> dict[tuple[str, str], float]:
    return {key: round(m.value, 6) for key, m in said(name).items() if key[0] in quantities}


@pytest.mark.parametrize("name", DCGM)
def test_every_version_of_dcgm_exporter_says_the_same(name: str):
    assert list(said(name)) == list(said("dcgm-4.9.0"))
    for key, expected in said("dcgm-4.9.0").items():
        found = said(name)[key]
        assert found.value == pytest.approx(expected.value)
        assert (found.unit, found.node, found.namespace, found.pod) == (
            expected.unit,
            expected.node,
            expected.namespace,
            expected.pod,
        )


def test_a_gpu_in_use_and_an_idle_one_are_both_told_of():
    found = said("dcgm-4.9.0")
    assert (found["gpu_power", "GPU-aaaa"].namespace, found["gpu_power", "GPU-aaaa"].pod) == (
        "research",
        "train-1-abcde",
    )
    assert found["gpu_power", "GPU-bbbb"].pod == ""
    assert found["gpu_util", "GPU-aaaa"].value == pytest.approx(0.97)
    assert found["gpu_power_throttle_time", "GPU-aaaa"].value == pytest.approx(12.5)


def test_the_margin_is_read_as_a_margin_and_never_as_a_temperature():
    found = said("dcgm-4.8.2")
    assert found["gpu_temp_margin", "GPU-aaaa"].value == 24
    assert found["gpu_temp", "GPU-aaaa"].value == 61


def test_nvidia_smi_says_the_same_as_dcgm():
    quantities = ("gpu_power", "gpu_temp", "gpu_memory_temp", "gpu_util", "gpu_power_limit_enforced")
    assert values("nvidia-smi", *quantities) == values("dcgm-4.9.0", *quantities)


def test_a_gpu_that_two_exporters_see_is_counted_once():
    found = said("dcgm-4.8.3", "kepler")
    assert sum(m.value for (quantity, _), m in found.items() if quantity == "gpu_power") == pytest.approx(470.5)


@pytest.mark.parametrize("name", ["ipmi", "redfish", "idrac", "kepler"])
def test_node_power_is_the_same_whoever_reads_the_board(name: str):
    assert values(name, "node_power") == {("node_power", ""): 3500}


@pytest.mark.parametrize("name", ["ipmi", "redfish", "idrac", "node-exporter"])
def test_the_inlet_is_the_same_whoever_reads_the_board_and_no_other_sensor_is_taken_for_it(name: str):
    assert values(name, "inlet_temp") == {("inlet_temp", ""): 24}


def test_the_chassis_of_a_node_add_up_and_one_that_is_scraped_twice_counts_once():
    def chassis(number: str, job: str, watts: float) -> Series:
        labels = {"node": "a", "chassis_id": number, "job": job, "instance": f"10.0.0.1:{job}"}
        return Series(
            metric="redfish_chassis_power_average_consumed_watts", labels=labels, value=watts, age_s=watts / 100
        )

    told = [chassis("1", "9610", 800.0), chassis("2", "9610", 5200.0), chassis("2", "9611", 5210.0)]
    (power,) = measurements(told)
    assert (power.node, power.value, power.age_s) == ("a", 6000.0, 52.0)


def test_a_pdu_counts_in_hundredths_of_a_kilowatt():
    assert values("snmp", "pdu_power", "pdu_temp") == {("pdu_power", ""): 3500, ("pdu_temp", ""): 24}


def test_what_is_not_switched_on_is_simply_not_there():
    text = 'DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-a",Hostname="n"} 300\n'
    assert {m.quantity for m in measurements(parse_text(text))} == {"gpu_power"}


def test_nan_is_no_measurement():
    assert measurements([Series(metric="DCGM_FI_DEV_GPU_TEMP", labels={"UUID": "GPU-a"}, value=float("nan"))]) == ()


def test_both_vocabularies_are_asked_for_at_once():
    asked = selector("gpu_power")
    assert "DCGM_FI_DEV_POWER_USAGE" in asked
    assert "DCGM_FI_DEV_BOARD_POWER_WATTS" in asked


def test_the_table_knows_both_names_of_every_renamed_dcgm_metric():
    dcgm = [word for word in vocabulary() if word.exporter == "dcgm-exporter"]
    by_quantity: dict[str, int] = {}
    for word in dcgm:
        by_quantity[word.quantity] = by_quantity.get(word.quantity, 0) + 1
    assert set(by_quantity.values()) == {2}
    assert len(by_quantity) == 22
