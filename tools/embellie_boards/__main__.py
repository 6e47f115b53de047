# SPDX-License-Identifier: Apache-2.0
"""Writes, or compares, everything that is generated here."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from embellie_boards.emissions import emissions
from embellie_boards.heat import heat
from embellie_boards.reference import metrics_page
from embellie_boards.working import working

REPOSITORY = Path(__file__).resolve().parents[2]
BOARDS = REPOSITORY / "charts" / "embellie" / "files" / "dashboards"


def generated() -> Mapping[Path, str]:
    """Return every generated file with its content."""
    files = {REPOSITORY / "docs" / "reference" / "metrics.md": metrics_page()}
    for name, make in (("working", working), ("emissions", emissions), ("heat", heat)):
        files[BOARDS / f"{name}.json"] = JSONEncoder(sort_keys=True, indent=1).encode(make().build()) + "\n"
    return files


def main() -> int:
    """Write the files, or say which are out of date."""
    parser = argparse.ArgumentParser(prog="python -m embellie_boards", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is out of date")
    check = parser.parse_args().check
    stale = [
        path for path, text in generated().items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in stale:
        sys.stdout.write(f"{'out of date' if check else 'written'}: {path.relative_to(REPOSITORY)}\n")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(generated()[path], encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
