"""A process that does the same work again and again: how slow the machine is at the moment.

A limit of time holds on an idle machine. On a busy one everything takes longer, and so does this
work; limits are relative to it.
"""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType
from typing import Final

from tests.support.process import PATIENCE

WORK_SECONDS: Final = 0.03
# It answers each line with the wall-clock seconds of the longest piece of work so far, the current one included.
_WORK: Final = f"""
import select, sys, time
longest = 0.0
while True:
    begun, end = time.monotonic(), time.process_time() + {WORK_SECONDS}
    while time.process_time() < end:
        pass
    longest = max(longest, time.monotonic() - begun)
    if select.select([sys.stdin], [], [], 0.5)[0]:
        if not sys.stdin.readline():
            break
        print(longest, flush=True)
"""


def slowdown(longest: float) -> float:
    """Return how many times longer a piece of work took than on an idle machine."""
    return max(1.0, longest / WORK_SECONDS)


class Reference:
    """The process; a context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", _WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Reference:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=PATIENCE)

    def limit(self, seconds: float, work: float = 1.0) -> float:
        """Return how many seconds something may have taken since the process was started, if that takes at
        most `seconds` on an idle machine, `work` of which are work of the processor.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return seconds + work * (slowdown(float(self._process.stdout.readline())) - 1)
