"""Durations on the command line: `7d` and `90s` to seconds, and seconds to text such as `3 h`.
Pure.
"""

from __future__ import annotations

import re

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhd]?)\Z")


def parse_duration(text: str) -> float:
    """Return the seconds in `90`, `90s`, `15m`, `24h` or `7d`. Raises ValueError."""
    match = _DURATION.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration: use 90s, 15m, 24h or 7d")
    return float(match[1]) * _SECONDS[match[2]]


def format_duration(seconds: float) -> str:
    """Format seconds in the largest unit that gives at least 2."""
    unit, size = next(((unit, size) for unit, size in reversed(_SECONDS.items()) if seconds >= 2 * size), ("s", 1))
    return f"{seconds / size:.0f} {unit}"
