"""Texts as pages show them."""

from __future__ import annotations

MINUTE, HOUR, DAY = 60, 3600, 86400


def visible_spaces(text: str) -> str:
    """Text from elsewhere, with everything shown that would not be seen, or would turn what follows
    around.
    """
    return "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in text)


def duration(seconds: float) -> str:
    """How long something takes, in the two largest units."""
    whole = int(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def count(number: int, one: str, many: str | None = None) -> str:
    """So many of something, which ends with an s if they are many, unless that is given."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(number: float) -> str:
    """So many bytes."""
    for unit in ("bytes", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"
