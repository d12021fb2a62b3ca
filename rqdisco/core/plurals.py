"""Numbers with their nouns, for people."""

from __future__ import annotations


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun; the plural is `many` or ends with an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
