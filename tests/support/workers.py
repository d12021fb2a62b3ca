"""Worker processes of a run of the tests."""

from __future__ import annotations

import fcntl
import os
import pickle
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import TypeVar

import pytest

# These use a processor all the time; all other tests mostly wait for processes.
BUSY = ("unit", "http", "simulated")
# As many workers as wait at a time, beside one for each processor.
WAITING = 4

T = TypeVar("T")


def is_busy(path: Path, tests: Path) -> bool:
    """Report whether the tests of a file or directory use a processor all the time."""
    return any(path.is_relative_to(tests / name) for name in BUSY)


def workers_for(paths: Sequence[Path], tests: Path, processors: int) -> int:
    """Return how many workers run the tests of some paths; 0 has them run without workers, since
    a module is never divided.
    """
    if len(paths) == 1 and paths[0].is_file():
        return 0
    waiting = 0 if paths and all(is_busy(path, tests) for path in paths) else WAITING
    return processors + waiting


def waiting_first(tests: Path, items: Iterable[tuple[Path, T]]) -> list[T]:
    """Return tests in their order, but those that wait before all others, which then fill the gaps
    at the end.
    """
    return [test for _, test in sorted(items, key=lambda item: is_busy(item[0], tests))]


class FailuresAtOnce:
    """A plugin that writes a line for each failure when it happens; their details come at the end, which
    may be minutes later.
    """

    def __init__(self, write_line: Callable[[str], None]) -> None:
        self._write_line = write_line

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            last = (report.longreprtext.splitlines() or [""])[-1]
            self._write_line(f"FAILED {report.nodeid} ({report.when}): {last}")


def usable_processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0))


def once_for_all_workers(directory: Path, make: Callable[[Path], T]) -> T:
    """Return what `make` makes in a directory, in the first process that asks; all others wait, and
    get a copy of its result. What fails is made again by the next.
    """
    directory.mkdir(exist_ok=True)
    result = directory / "result"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not result.exists():
            made = make(Path(mkdtemp(dir=directory)))
            result.write_bytes(pickle.dumps(made))
    copy: T = pickle.loads(result.read_bytes())
    return copy
