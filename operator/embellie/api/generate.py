# SPDX-License-Identifier: Apache-2.0
"""Write what follows from the types: `python -m embellie.api.generate [--check]`.

The CustomResourceDefinitions are written twice, to `manifests/crds/` for people and tests and to
`charts/embellie/files/crds/` for the chart; the reference page once. With `--check` nothing is written, and the exit
status is 1 when a file differs from the types.
"""

import argparse
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from embellie.api import KINDS
from embellie.api.meta import GROUP, Resource
from embellie.api.reference import render_reference
from embellie.api.schema import crd

FOLDERS = (Path("manifests/crds"), Path("charts/embellie/files/crds"))
REFERENCE = Path("docs/reference/crds.md")
REPOSITORY = Path(__file__).resolve().parents[3]

_HEADER = """\
# SPDX-License-Identifier: Apache-2.0
# Generated from {source} by `python -m embellie.api.generate`; change that file, not this one.
"""


class _PlainDumper(yaml.SafeDumper):
    """Writes lists indented, as people do, and nothing by reference."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def file_name(kind: type[Resource]) -> str:
    """Return the name of the file that holds a kind's definition."""
    return f"{GROUP}_{kind.definition.plural}.yaml"


def render(kind: type[Resource]) -> str:
    """Return the YAML text of a kind's CustomResourceDefinition."""
    source = f"operator/{kind.__module__.replace('.', '/')}.py"
    body = yaml.dump(crd(kind), Dumper=_PlainDumper, sort_keys=False, width=118, allow_unicode=True)
    return _HEADER.format(source=source) + body


@cache
def wanted() -> dict[Path, str]:
    """Return every file that follows from the types, with its text."""
    texts = {file_name(kind): render(kind) for kind in KINDS}
    crds = {folder / name: text for folder in FOLDERS for name, text in texts.items()}
    return {**crds, REFERENCE: render_reference(KINDS)}


def differences(root: Path) -> list[Path]:
    """Return the files below `root` that are missing, differ from the types, or have no kind any more."""
    files = wanted()
    different = [
        path
        for path, text in files.items()
        if not (root / path).is_file() or (root / path).read_text(encoding="utf-8") != text
    ]
    return [*different, *_strays(root, files)]


def _strays(root: Path, files: dict[Path, str]) -> list[Path]:
    found = (path.relative_to(root) for folder in FOLDERS for path in sorted((root / folder).glob("*.yaml")))
    return [path for path in found if path not in files]


def write(root: Path) -> None:
    """Write every file anew below `root`, and remove those of kinds that are gone."""
    files = wanted()
    for path in _strays(root, files):
        (root / path).unlink()
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Run the generator; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m embellie.api.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when a file differs from the types")
    parser.add_argument("--root", type=Path, default=REPOSITORY, help="root of the repository")
    options = parser.parse_args(arguments)
    if not options.check:
        write(options.root)
        return 0
    different = differences(options.root)
    for path in different:
        sys.stderr.write(f"{path} differs from the types; run `python -m embellie.api.generate`\n")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
