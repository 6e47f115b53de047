# SPDX-License-Identifier: Apache-2.0
"""Links between the project's own pages."""

import json
import re
from pathlib import Path
from typing import Any

from embellie_testbed.paths import REPOSITORY

ROOMS = ("docs", "manifests", "charts", "forecasting", "operator")
PAGES = [*REPOSITORY.glob("*.md"), *(page for room in ROOMS for page in (REPOSITORY / room).rglob("*.md"))]
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the page's headings: lower case, no punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text(encoding="utf-8")), flags=re.MULTILINE)
    shown = [re.sub(r"\]\([^)]*\)", "", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in shown}


def broken(page: Path) -> list[str]:
    missing = []
    for link in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        path, _, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(f"{page.relative_to(REPOSITORY)}: {link}")
    return missing


def test_every_link_between_pages_leads_to_a_page_and_a_heading_that_are_there():
    assert len(PAGES) > 40
    assert not [link for page in PAGES for link in broken(page)]


def test_every_page_of_findings_is_named_by_its_page_and_by_the_index():
    index = (REPOSITORY / "docs" / "README.md").read_text(encoding="utf-8")
    for page in (REPOSITORY / "docs" / "findings").glob("*.md"):
        assert f"(findings/{page.name})" in index
        assert f"(findings/{page.name}" in (REPOSITORY / "docs" / page.name).read_text(encoding="utf-8")


def titles(panels: list[dict[str, Any]]) -> set[str]:
    """Titles of panels, and of what is folded in among them; a variable as pages write it: `ZONE` for `$zone`."""
    inner = [part for panel in panels for part in panel.get("panels", ())]
    found = {re.sub(r"\$(\w+)", lambda name: name[1].upper(), panel.get("title", "")) for panel in panels}
    return found | (titles(inner) if inner else set())


def test_every_panel_that_a_page_names_is_on_a_board():
    boards = (REPOSITORY / "charts" / "embellie" / "files" / "dashboards").glob("*.json")
    shown = {title for path in boards for title in titles(json.loads(path.read_text(encoding="utf-8"))["panels"])}
    named = [
        (page.name, re.sub(r"\s+", " ", title))
        for page in (REPOSITORY / "docs" / "runbooks").glob("*.md")
        for title in re.findall(r"(?<!\*)\*([A-Z][^*]*\?)\*(?!\*)", page.read_text(encoding="utf-8"))
    ]
    assert len(named) > 6
    assert [one for one in named if one[1] not in shown] == []
