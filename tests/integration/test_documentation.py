"""The pages of the documentation: their links, and the files that they show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "deploy" / "rqlite").glob("*.service"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_SHOWN = re.compile(r"^`(deploy/[^`]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_files_are_shown_unchanged_in_the_documents(page: Path) -> None:
    for name, text in _SHOWN.findall(page.read_text()):
        assert text == (ROOT / name).read_text()


def test_units_are_shown_in_the_documents() -> None:
    page = (ROOT / "docs" / "running" / "systemd.md").read_text()
    shown = {name for name, _ in _SHOWN.findall(page)}

    assert {named(unit) for unit in UNITS} | {"deploy/rqlite/node.env"} == shown


def heading_anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page."""
    text = _BLOCK.sub("", page.read_text())
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_in_the_documents_resolve(page: Path) -> None:
    for target in _LINK.findall(_BLOCK.sub("", page.read_text())):
        if ":" in target:
            continue
        name, _, anchor = target.partition("#")
        other = page.parent / name if name else page
        assert other.exists(), target
        assert not anchor or anchor in heading_anchors(other), target
