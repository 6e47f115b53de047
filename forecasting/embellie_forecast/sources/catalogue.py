# SPDX-License-Identifier: Apache-2.0
"""Sources by name: how a GridZone and a command line choose them. A new source is one adapter and one line here."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from embellie_forecast.sources.base import Fault, SourceError
from embellie_forecast.sources.eco2mix import Eco2mix
from embellie_forecast.sources.eia import Eia
from embellie_forecast.sources.electricitymaps import ElectricityMaps
from embellie_forecast.sources.entsoe import Entsoe
from embellie_forecast.sources.files import Bundle, FileSource
from embellie_forecast.sources.neso import Neso
from embellie_forecast.sources.source import Source
from embellie_forecast.sources.transport import Http

_AREA = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """Which source, and which area of it; for a file or a bundle also where it lies."""

    kind: str
    area: str = ""
    path: str = ""

    def __str__(self) -> str:
        parts = [f"{key}={value}" for key, value in (("area", self.area), ("path", self.path)) if value]
        return self.kind + (":" + ",".join(parts) if parts else "")


def _file(_http: Http, spec: SourceSpec) -> Source:
    return FileSource(Path(spec.path))


MAKERS: Mapping[str, tuple[Callable[[Http, SourceSpec], Source], frozenset[str]]] = {
    "eco2mix": (lambda http, _spec: Eco2mix(http), frozenset()),
    "eia": (lambda http, spec: Eia(http, spec.area), frozenset({"area"})),
    "electricitymaps": (lambda http, spec: ElectricityMaps(http, spec.area), frozenset({"area"})),
    "entsoe": (lambda http, spec: Entsoe(http, spec.area), frozenset({"area"})),
    "neso": (lambda http, _spec: Neso(http), frozenset()),
    "file": (_file, frozenset({"path"})),
    "bundle": (lambda _http, spec: Bundle(Path(spec.path), spec.area), frozenset({"area", "path"})),
}
"""Kind -> maker, and what it must be told."""


def parse_spec(text: str) -> SourceSpec:
    """Read `KIND` or `KIND:area=AREA,path=PATH`.

    >>> str(parse_spec("eia:area=CISO"))
    'eia:area=CISO'
    """
    kind, _, rest = text.partition(":")
    options = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if key not in {"area", "path"} or not equals:
            raise SourceError(Fault.NOT_CONFIGURED, f"{text[:80]!r}: write a source as KIND:area=AREA,path=PATH")
        # A file is known by its whole path: two of one name are two files.
        options[key] = str(Path(value).resolve()) if key == "path" and value else value
    return checked_spec(SourceSpec(kind=kind.lower(), **options))


def checked_spec(spec: SourceSpec) -> SourceSpec:
    """Return the spec; SourceError where there is no such source or it lacks what it must be told."""
    if spec.kind not in MAKERS:
        raise SourceError(
            Fault.NOT_CONFIGURED, f"there is no source {spec.kind[:40]!r}; there are {', '.join(sorted(MAKERS))}"
        )
    for key in sorted(MAKERS[spec.kind][1]):
        if not getattr(spec, key):
            raise SourceError(
                Fault.NOT_CONFIGURED, f"the source {spec.kind} must be told its {key}, as in {spec.kind}:{key}=..."
            )
    if spec.area and not _AREA.fullmatch(spec.area):
        raise SourceError(
            Fault.NOT_CONFIGURED, f"area {spec.area[:40]!r} may hold letters, digits, dots, dashes and underscores only"
        )
    return spec


def make_source(spec: SourceSpec, http: Http) -> Source:
    """Return the source that a spec names."""
    return MAKERS[checked_spec(spec).kind][0](http, spec)
