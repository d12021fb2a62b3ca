"""Formatting of values for pages."""

from __future__ import annotations

from twisted.web.template import Tag, tags

MINUTE, HOUR, DAY = 60, 3600, 86400


def escape_invisible(text: str) -> str:
    """Escape characters of foreign text that are invisible or change the direction of text."""
    return "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in text)


def duration(seconds: float) -> str:
    """Format a duration in its two largest units."""
    whole = int(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def format_bytes(number: float) -> str:
    """Format a number of bytes."""
    for unit in ("bytes", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def sentence(text: str) -> str:
    """Return the text with a capital and a full stop, but never with a changed name or command."""
    if not text:
        return ""
    first = text.split(maxsplit=1)[0]
    begin = text[0].upper() if first.isalpha() else text[0]
    return begin + text[1:] + ("" if text.endswith((".", "`")) else ".")


def with_code(text: str) -> list[Tag | str]:
    """Return the parts of a text, with what stands between backticks as code."""
    parts = escape_invisible(text).split("`")
    return [tags.code(part) if at % 2 else part for at, part in enumerate(parts)]
