"""Events with their times, to be printed in order."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class EventLog:
    """Lines with their times, in seconds of the wall clock, like the daemons' logs."""

    lines: list[tuple[float, str]] = field(default_factory=list)

    def log(self, text: str) -> None:
        """Add an event that happens now."""
        self.lines.append((time.time(), text))


def format_stories(logs: Iterable[EventLog], begun: float) -> str:
    """Return all lines of several logs in the order of time, in seconds since `begun`."""
    lines = sorted(line for log in logs for line in log.lines)
    return "\n".join(f"{at - begun:9.3f} {text}" for at, text in lines)
