"""What happened, with the time of each thing, to be told in order."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class EventLog:
    """Lines and when they were said, in seconds of the wall clock, which the daemons' logs have
    too.
    """

    lines: list[tuple[float, str]] = field(default_factory=list)

    def log(self, text: str) -> None:
        """Something happens now."""
        self.lines.append((time.time(), text))


def format_stories(logs: Iterable[EventLog], begun: float) -> str:
    """All lines of several stories in the order of time, in seconds since `begun`."""
    lines = sorted(line for log in logs for line in log.lines)
    return "\n".join(f"{at - begun:9.3f} {text}" for at, text in lines)
