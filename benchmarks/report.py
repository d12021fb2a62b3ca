"""The table of results, and the facts about the machine that it was made on."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.processes import program

_HEAD = ("figure", "unit", "median", "rounds", "must", "aim", "result")
_MISSED = "MISSED"
_IN_MEMORY = ("tmpfs", "ramfs")
_PROGRAMS = {"etcd": "--version", "wrk": "--version", "dnsmasq": "--version", "dnsperf": "-h"}


@dataclass(frozen=True)
class Row:
    """One figure: its value in each round, None if it could not be measured, and its limits."""

    figure: str
    unit: str
    rounds: Sequence[float]
    must: float | None = None
    aim: float | None = None
    more_is_better: bool = False

    def cells(self) -> tuple[str, ...]:
        """Return the row of the table."""
        value = _number(median(self.rounds)) if self.rounds else "not installed"
        each = " ".join(map(_number, self.rounds)) if len(self.rounds) > 1 else ""
        return self.figure, self.unit, value, each, _number(self.must), _number(self.aim), self.result()

    def result(self) -> str:
        """Return "met" if the figure as it is printed reaches the aim, "aim missed" if only the
        limit, and "MISSED" if not even that; nothing for a figure without limits.
        """
        if self.must is None or self.aim is None:
            return ""
        if not self.rounds:
            return "not measured"
        value, must, aim = (
            float(_number(each).replace(",", "")) * (1 if self.more_is_better else -1)
            for each in (median(self.rounds), self.must, self.aim)
        )
        if value >= aim:
            return "met"
        return "aim missed" if value >= must else _MISSED


def table(rows: Iterable[Row]) -> str:
    """Format the rows as a Markdown table that is readable as plain text, too."""
    cells = [_HEAD, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines) + "\n"


def bullets(notes: Iterable[str]) -> str:
    """Format notes as a Markdown list, in lines of prose."""
    return "".join(textwrap.fill(note, 100, initial_indent="- ", subsequent_indent="  ") + "\n" for note in notes)


def summary(rows: Iterable[Row]) -> str:
    """Return one line about the limits that were missed."""
    missed = [row.figure for row in rows if row.result() == _MISSED]
    return f"Missed: {'; '.join(missed)}." if missed else "No limit was missed."


def load_rows(what: str, runs: Sequence[Any]) -> list[Row]:
    """Return the rows of some rounds of load."""
    return [
        Row(what, "1/s", [run.rate for run in runs]),
        Row(f"{what}: p50", "ms", [run.p50_ms for run in runs]),
        Row(f"{what}: p99", "ms", [run.p99_ms for run in runs]),
        Row(f"{what}: CPU each", "us", [run.cpu_us for run in runs]),
    ]


def ratios(ours: Sequence[Any], theirs: Sequence[Any], figure: str) -> list[float]:
    """Return our figures divided by theirs, round by round."""
    return [getattr(our, figure) / getattr(its, figure) for our, its in zip(ours, theirs, strict=False)]


def machine() -> list[str]:
    """Return one line each about the machine, the programs and the date."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("rqdisco", "Twisted", "klein", "msgspec"))
    return [
        f"Date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"CPU: {len(os.sched_getaffinity(0))} cores, {_field('/proc/cpuinfo', 'model name')}",
        f"Memory: {int(_field('/proc/meminfo', 'MemTotal').split()[0]) / 2**20:.1f} GiB",
        f"Kernel: {platform.system()} {platform.release()}",
        f"Python: {platform.python_implementation()} {platform.python_version()}; {packages}",
        "; ".join(f"{name}: {_version(name, option)}" for name, option in _PROGRAMS.items()),
        f"Disk: {file_system(Path(tempfile.gettempdir()))}, {1e3 * _sync_seconds():.2f} ms for one fdatasync",
        f"Load average at the start: {os.getloadavg()[0]:.2f}",
    ]


def warnings() -> list[str]:
    """Return what makes the figures of this machine misleading."""
    kind = file_system(Path(tempfile.gettempdir()))
    if kind not in _IN_MEMORY:
        return []
    return [
        f"The temporary directory is on {kind}, where fdatasync costs nothing: the registrations are NOT durable and "
        "their figures mean nothing. Set TMPDIR to a directory on a disk."
    ]


def file_system(path: Path) -> str:
    """Return the type of the file system that `path` is on."""
    path, best, kind = path.resolve(), Path(), "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mounted, this_kind = line.split()[:3]
        point = Path(mounted.replace("\\040", " "))
        if (path == point or point in path.parents) and len(point.parts) >= len(best.parts):
            best, kind = point, this_kind
    return kind


def percentile(values: Iterable[float], share: float) -> float:
    """Return the least value that is not below `share` of all."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.{0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2}f}"


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def _version(name: str, option: str) -> str:
    """Return the first word with a digit in the program's output."""
    try:
        output = subprocess.run([program(name), option], capture_output=True, text=True, timeout=10, check=False).stdout
    except OSError:
        return "not installed"
    return next((word for word in output.split() if any(map(str.isdigit, word))), "unknown")


def _sync_seconds() -> float:
    """Return the time to make 300 appended bytes durable."""
    taken = []
    with tempfile.TemporaryFile() as file:
        for _ in range(200):
            file.write(b"x" * 300)
            file.flush()
            start = time.monotonic()
            os.fdatasync(file.fileno())
            taken.append(time.monotonic() - start)
    return median(taken)
