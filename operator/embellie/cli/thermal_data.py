# SPDX-License-Identifier: Apache-2.0
"""Reads measurements of machines for `embellie thermal fit`: three kinds of CSV files, told apart by their columns."""

import fnmatch
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import pandas as pd

from embellie.domain.forecast import FloatArray
from embellie_forecast.tables import named_twice, read_csv
from embellie_forecast.unreadable import head_of, why_unreadable

STEP_S = 15.0
"""Steps that die temperatures are predicted by: a usual scrape interval [s]."""
MAX_GAP_S = 30.0
"""Samples further apart than this do not belong to one unbroken series [s]."""
MOST_OUTSIDE = 0.1
"""A column of which more than this share lies outside what a machine shows is in another unit than its name says."""
LEAST_W = 5.0
"""No GPU draws so little for a whole file."""
WORKING = 2.0
"""A server whose power rises to so many times its lowest has worked."""
SHUFFLED = 0.25
"""Rows of which more than this share come before the one above them are in no order; else their clock began anew."""
_GPU_POWER = re.compile(r"^gpu(\d+)_power_w$")
_KNOWN = ("run_id", "t_s", "ts", "gpu", "dcmi_", "fan_", "power_", "temp_", "util_")
_HOURLY = ("ts", "power_avg_w", "temp_avg_c", "util_avg_pct")


class Schema(StrEnum):
    """What a file holds."""

    GPU = "gpu-samples"
    NODE = "node-samples"
    HOURLY = "hourly-servers"


class DataError(ValueError):
    """A file cannot be used; says which column and how to mend it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Rows of one run of one machine (or one month of one server), in order of time."""

    name: str
    label: str
    """What `--test-runs` is matched with, beside the name."""
    source: str
    schema: Schema
    mode: str
    rows: pd.DataFrame

    def matches(self, pattern: str) -> bool:
        """Tell whether a glob names this run, its label, the end of its label, or one part of it."""
        parts = self.label.split("/")
        ends = ["/".join(parts[k:]) for k in range(len(parts))]
        return any(fnmatch.fnmatchcase(text, pattern) for text in (self.name, *parts, *ends))

    @property
    def gpus(self) -> tuple[int, ...]:
        """Numbers of the GPUs that the rows describe."""
        return gpu_numbers(self.rows.columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a file gave."""

    schema: Schema
    runs: tuple[Run, ...]
    left_out: int
    """Rows with values that no machine has."""


def gpu_numbers(columns: Sequence[str] | pd.Index) -> tuple[int, ...]:
    """Return the GPU numbers among the columns."""
    return tuple(sorted(int(m.group(1)) for c in columns if (m := _GPU_POWER.match(str(c)))))


def recognise(columns: Sequence[str] | pd.Index, where: str) -> Schema:
    """Tell a file's kind by its columns; raises DataError that names what is missing."""
    names = {str(c) for c in columns}
    numbers = gpu_numbers(list(names))
    if numbers:
        needed = ["run_id", "t_s", *(f"gpu{i}_temp_c" for i in numbers)]
        missing = [c for c in needed if c not in names]
        if missing:
            raise DataError(f"{where}: the columns {', '.join(missing[:5])} are missing beside gpu{numbers[0]}_power_w")
        return Schema.NODE if "dcmi_power_w" in names else Schema.GPU
    if "power_avg_w" in names:
        missing = [c for c in _HOURLY if c not in names]
        if missing:
            raise DataError(f"{where}: the columns {', '.join(missing)} are missing beside power_avg_w")
        return Schema.HOURLY
    raise DataError(
        f"{where}: the columns are those of no known file: GPU samples have run_id, t_s, gpuN_power_w and gpuN_temp_c, "
        "node samples also dcmi_power_w, hourly servers have ts, power_avg_w, temp_avg_c and util_avg_pct"
    )


def load(path: Path) -> Loaded:
    """Read a CSV file (also .gz); raises DataError that says what is wrong with it."""
    try:
        table = read_csv(path)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        why = why_unreadable(head_of(path), path.name, error)
        raise DataError(f"{path}: {why or f'cannot be read as CSV: {str(error)[:200]}'}") from error
    if (twice := named_twice(table.columns, _KNOWN)) is not None:
        raise DataError(f"{path}: there are two columns {twice}; keep one of them")
    schema = recognise(table.columns, str(path))
    if table.empty:
        raise DataError(f"{path}: there are no rows below the header")
    return _hourly(path, table) if schema is Schema.HOURLY else _samples(path, table, schema)


def _numbers(path: Path, table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    found = table[list(columns)].apply(pd.to_numeric, errors="coerce")
    empty = [c for c in columns if found[c].isna().all()]
    if empty:
        raise DataError(f"{path}: column {empty[0]} holds no numbers")
    numbers: pd.DataFrame = found.astype(np.float64)
    return numbers


def _samples(path: Path, table: pd.DataFrame, schema: Schema) -> Loaded:
    gpus = gpu_numbers(table.columns)
    columns = ["t_s", *(f"gpu{i}_{what}" for i in gpus for what in ("power_w", "temp_c"))]
    optional = [c for c in (*(f"gpu{i}_util_pct" for i in gpus), "fan_sys_avg_rpm") if c in table.columns]
    if schema is Schema.NODE:
        columns.append("dcmi_power_w")
    # What cannot be is not known, and a blank column is as good as none.
    known = table[optional].apply(pd.to_numeric, errors="coerce").astype(np.float64)
    known = known.where(known >= 0.0).dropna(axis="columns", how="all")
    numbers = pd.concat([_numbers(path, table, columns), known], axis=1)
    named = table["run_id"].notna()
    if not named.any():
        raise DataError(f"{path}: no row has a run_id")
    good = named & numbers[columns].notna().all(axis=1)
    for i in gpus:
        good &= _power(path, numbers[f"gpu{i}_power_w"]) & _within(path, numbers[f"gpu{i}_temp_c"], -20, 130)
    if schema is Schema.NODE:
        good &= _within(path, numbers["dcmi_power_w"], 1, 100_000)
    if not good.any():
        raise DataError(f"{path}: no row holds powers in watts and temperatures in degrees Celsius")
    if schema is Schema.NODE:
        of_gpus = numbers[[f"gpu{i}_power_w" for i in gpus]].sum(axis=1)
        if (numbers["dcmi_power_w"] - of_gpus)[good].median() < 0.0:
            raise DataError(f"{path}: column dcmi_power_w says less than the GPUs of its machine draw; is it in watts?")
    words = {
        c: table[c].astype(str) if c in table.columns else "" for c in ("campaign", "fan_mode", "workload", "cap_w")
    }
    numbers = numbers.assign(run_id=table["run_id"].astype(str), **words)
    runs = []
    for name, several in numbers[good].groupby("run_id", sort=False):
        for again, rows in enumerate(_clocks(several)):
            ordered = rows.sort_values("t_s").drop_duplicates("t_s").reset_index(drop=True)
            first = ordered.iloc[0]
            parts = [str(first[c]) for c in ("campaign", "fan_mode", "workload", "cap_w")]
            runs.append(
                Run(
                    name=f"{name}#{again + 1}" if again else str(name), label="/".join([*parts, str(name)]),
                    source=path.name, schema=schema, mode=parts[1] or "any", rows=ordered,
                )
            )  # fmt: skip
    return Loaded(schema=schema, runs=tuple(runs), left_out=int((~good).sum()))


def _within(path: Path, values: pd.Series, low: float, high: float) -> pd.Series:
    """Tell which values a machine can show; raises DataError where most likely the unit is another one."""
    outside = values.notna() & ~values.between(low, high)
    if outside.mean() > MOST_OUTSIDE:
        raise DataError(
            f"{path}: {100.0 * outside.mean():.0f} % of column {values.name} lie outside {low:g} to {high:g}, such as "
            f"{values[outside].iloc[0]:g}; compare its unit with its name"
        )
    return values.between(low, high)


def _power(path: Path, values: pd.Series) -> pd.Series:
    """Tell which powers of a GPU can be; raises DataError where most likely the unit is another one."""
    most_w = float(values.max())
    if 0.0 < most_w < LEAST_W:
        raise DataError(
            f"{path}: column {values.name} is never above {most_w:.1f} W: it seems to be in kilowatts, but is read in "
            "watts"
        )
    return _within(path, values, 0, 5000)


def _clocks(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Part one run's rows where its clock begins anew: several runs of one name, written one after the other."""
    step_s = rows["t_s"].diff()
    if (step_s < 0.0).mean() > SHUFFLED:
        return [rows]
    return [part for _, part in rows.groupby((step_s < -MAX_GAP_S).cumsum())]


def _hourly(path: Path, table: pd.DataFrame) -> Loaded:
    times = pd.to_datetime(table["ts"].astype(str), errors="coerce", format="ISO8601", utc=True).dt.tz_localize(None)
    if times.isna().all():
        raise DataError(f"{path}: column ts holds no times such as 2024-01-31 15:00")
    numbers = _numbers(path, table, _HOURLY[1:]).assign(ts=times)
    good = (
        times.notna()
        & _power(path, numbers["power_avg_w"])
        & _within(path, numbers["temp_avg_c"], -20, 130)
        & _within(path, numbers["util_avg_pct"], 0, 100)
    )
    if not good.any():
        raise DataError(f"{path}: no row holds watts, degrees Celsius and percent")
    power, busy = numbers["power_avg_w"][good], numbers["util_avg_pct"][good]
    if 0.0 < busy.max() <= 1.0 and power.max() > WORKING * power.min():
        raise DataError(
            f"{path}: column util_avg_pct is never above 1 %, and the power moves: it seems to be a fraction, but is "
            "read in percent"
        )
    ordered = numbers[good].sort_values("ts").drop_duplicates("ts").reset_index(drop=True)
    server = path.name.partition(".")[0]
    runs = []
    for month, rows in ordered.groupby(ordered["ts"].dt.strftime("%Y-%m"), sort=True):
        label = f"{server}/{month}"
        runs.append(
            Run(
                name=label, label=label, source=server, schema=Schema.HOURLY, mode=server,
                rows=rows.reset_index(drop=True),
            )
        )  # fmt: skip
    return Loaded(schema=Schema.HOURLY, runs=tuple(runs), left_out=int((~good).sum()))


def steps(run: Run, number: int) -> list[tuple[FloatArray, FloatArray, FloatArray]]:
    """Return mean power [W], mean temperature and last temperature [degC] of each step, per unbroken part of a run."""
    t = run.rows["t_s"].to_numpy()
    power = run.rows[f"gpu{number}_power_w"].to_numpy()
    temperature = run.rows[f"gpu{number}_temp_c"].to_numpy()
    found = []
    for part in np.split(np.arange(t.size), np.flatnonzero(np.diff(t) > MAX_GAP_S) + 1):
        grid = np.arange(t[part[0]], t[part[-1]], 1.0)
        count = int(grid.size // STEP_S)
        if count < 3:
            continue
        size = int(STEP_S)
        rows = [np.interp(grid, t[part], v[part])[: count * size].reshape(count, size) for v in (power, temperature)]
        found.append((rows[0].mean(axis=1), rows[1].mean(axis=1), rows[1][:, -1]))
    return found
