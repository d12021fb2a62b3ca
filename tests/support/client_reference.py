"""The reference in docs/client.md, from the comments in the client library.

`python -m tests.support.client_reference` rewrites it.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

import rqdisco
from rqdisco import client

PAGE = Path(rqdisco.__file__).parent.parent / "docs" / "client.md"
START, END = "<!-- The fields of the library's classes: begin -->", "<!-- end -->"


def public_classes() -> Iterator[type[Any]]:
    """Return the public classes of the library that have fields."""
    for name in client.__all__:
        each = getattr(client, name)
        if inspect.isclass(each) and issubclass(each, msgspec.Struct):
            yield each


def fields(kind: type[Any]) -> dict[str, tuple[str, str]]:
    """Return the type and the comment of each field, "" if it has none."""
    source = textwrap.dedent(inspect.getsource(kind))
    lines = source.splitlines()
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for statement in definition.body:
        if isinstance(statement, ast.AnnAssign):
            words: list[str] = []
            place = statement.lineno - 2
            while lines[place].strip().startswith("#"):
                words.insert(0, lines[place].strip().removeprefix("#").strip())
                place -= 1
            found[ast.unparse(statement.target)] = ast.unparse(statement.annotation), " ".join(words)
    return found


def reference() -> str:
    """Return the reference in Markdown."""
    parts = []
    for kind in public_classes():
        summary = inspect.cleandoc(kind.__doc__ or "").replace("\n\n", " ").replace("\n", " ")
        rows = [
            f"| `{name}` | `{annotation.replace('|', chr(92) + '|')}` | {text.rstrip('.')} |"
            for name, (annotation, text) in fields(kind).items()
        ]
        parts.append(
            "\n".join(
                [f"### {kind.__name__}\n", f"{_wrapped(summary)}\n", "| field | type | |", "|---|---|---|", *rows]
            )
        )
    return "\n\n".join(parts)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def with_reference(page: str) -> str:
    """Return the page with the present reference."""
    before, _, rest = page.partition(START)
    return f"{before}{START}\n\n{reference()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(with_reference(PAGE.read_text()))
