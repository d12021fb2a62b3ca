"""The files of the project agree about its version and the Pythons it supports."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from rqdisco import __version__

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_changelog_has_a_section_for_this_version() -> None:
    assert f"\n## [{__version__}] - " in (ROOT / "CHANGES.md").read_text()


def test_all_checks_are_for_the_pythons_that_are_supported() -> None:
    supported = re.findall(r"Python :: (3\.[0-9]+)$", "\n".join(PYPROJECT["project"]["classifiers"]), re.MULTILINE)
    assert PYPROJECT["project"]["requires-python"] == f">={supported[0]}"
    assert PYPROJECT["tool"]["ruff"]["target-version"] == "py" + supported[0].replace(".", "")
    (versions,) = re.findall(r"^for version in (.*); do$", (ROOT / ".ci" / "interpreters").read_text(), re.MULTILINE)
    assert versions.split() == supported
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    named = {page.name: re.findall(r"Python (3\.[0-9]+) (?:or|and) ", page.read_text()) for page in pages}
    assert "README.md" in [name for name, oldest in named.items() if oldest]
    assert {name: oldest for name, oldest in named.items() if set(oldest) - {supported[0]}} == {}
