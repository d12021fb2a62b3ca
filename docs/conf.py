"""Sphinx settings of the documentation: Markdown by MyST, the theme Furo."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rqdisco import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "rqdisco"
author = "rqdisco contributors"
copyright = f"2026, {author}"  # noqa: A001, the name is Sphinx's
release = __version__

extensions = ["myst_parser"]
# Headings get the anchors that GitHub gives them, so that links work in both places.
myst_heading_anchors = 4
# Pygments has one lexer for all of HCL, and it does not know Nomad's.
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_title = f"rqdisco {release}"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

_OUTSIDE = re.compile(r"\[([^]]+)\]\((?:\.\./)+((?:benchmarks|deploy|rqdisco|tests)/[^)\s]+|[A-Z]+\.md)\)")


def _name_files(source: list[str]) -> None:
    """Replace links to files of the repository that are not in docs/ by their paths."""
    source[0] = _OUTSIDE.sub(r"\1 (`\2`)", source[0])


def setup(app: Sphinx) -> None:
    app.connect("source-read", lambda app, name, source: _name_files(source))
