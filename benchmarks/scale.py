"""The cost of many IDs: memory, and time until the first answer after a start."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.processes import BenchmarkFailed, Client, Rqdisco
from benchmarks.state import State, addresses_of, make_state


class Scale(NamedTuple):
    """One start of a daemon that holds many IDs; memory in KiB for each."""

    startup_s: float
    added_kib: float
    plain_kib: float


def empty_bytes(directory: Path) -> int:
    """Return the resident memory of a daemon that holds a single ID, after its first answer."""
    return _start(make_state(directory / "state", 1), directory)[1]


def scale_round(state: State, directory: Path, empty: int) -> Scale:
    """Start a daemon on `state`, and measure it after its first answer."""
    seconds, resident = _start(state, directory)
    return Scale(seconds, (resident - empty) / 1024 / len(state.ids), resident / 1024 / len(state.ids))


def _start(state: State, directory: Path) -> tuple[float, int]:
    """Return the seconds from exec to the first answer, and the resident memory then."""
    index = len(state.ids) * 2 // 3
    with Rqdisco(state.directory, directory) as daemon:
        client = Client(*daemon.address())
        document = client.ask("GET", f"/{state.ids[index]}")
        seconds = time.monotonic() - daemon.started
        if document["disco_id"] != state.ids[index] or document["nodes"] != addresses_of(index):
            raise BenchmarkFailed(f"the document of ID {index} is not what was written: {document}")
        if (held := client.ask("GET", "/")["ids"]) != len(state.ids):
            raise BenchmarkFailed(f"{held} IDs held, {len(state.ids)} written")
        client.close()
        return seconds, daemon.resident_bytes()
