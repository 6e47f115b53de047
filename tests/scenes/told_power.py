# SPDX-License-Identifier: Apache-2.0
"""What an exporter says of a node or of a pod's GPU."""

from embellie.telemetry.exporters import Measurement


def told(quantity: str, value: float, on: str, pod: str = "", device: str = "g0") -> Measurement:
    return Measurement(quantity=quantity, unit="W", value=value, node=on, device=device, namespace="research", pod=pod)
