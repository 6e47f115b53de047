# SPDX-License-Identifier: Apache-2.0
"""What the operator and the machine say while they are measured."""

import math
import time
from pathlib import Path

import psutil
import requests

from embellie_testbed.product import Program


def percentile(values: list[float], share: float) -> float:
    """Return a percentile by rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def metric(operator: Program, name: str) -> dict[str, float]:
    """Return the samples of one metric by their label part."""
    text = requests.get(f"http://127.0.0.1:{operator.port}/metrics", timeout=5).text
    found = {}
    for line in text.splitlines():
        if line.startswith(name) and not line.startswith("#"):
            label, _, value = line.rpartition(" ")
            found[label[len(name) :]] = float(value)
    return found


def planning(operator: Program) -> tuple[float, float]:
    """Time from snapshot to plan in all turns so far [s], and how many turns planned."""
    total, turns = (metric(operator, f"embellie_turn_seconds_{kind}") for kind in ("sum", "count"))
    return total.get('{part="plan"}', 0.0), turns.get('{part="plan"}', 0.0)


def mean_plan_s(after: tuple[float, float], before: tuple[float, float] = (0.0, 0.0)) -> float:
    """Mean duration of snapshot to plan per turn between two moments [s]; not a number where none planned."""
    turns = after[1] - before[1]
    return (after[0] - before[0]) / turns if turns else math.nan


def cpu_s(pid: int) -> float:
    """CPU time of a process so far [s]."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def cpu_share(pid: int, seconds: float) -> float:
    """CPU time of a process over a stretch, as a share of one core."""
    before_s, began = cpu_s(pid), time.monotonic()
    time.sleep(seconds)
    return (cpu_s(pid) - before_s) / (time.monotonic() - began)


def plane_cpu_s() -> float:
    """CPU time of the control plane's programs so far [s]."""
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return sum(each.user + each.system for each in times)


def peak_mib(pid: int) -> float:
    """Peak resident memory [MiB]."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM")
