"""The worst time of an answer during a compaction, and outside one."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from benchmarks.prober import INTERVAL, Sample
from benchmarks.processes import BenchmarkFailed, Client, Rqdisco
from benchmarks.report import percentile
from benchmarks.state import State
from rqdisco.storage.snapshot import NAME, PREVIOUS_NAME

_PROBED_IDS = 2_000
_WRITTEN_FIRST = 2_000
_MARGIN = 0.2


class Stall(NamedTuple):
    """The prober's results in one round, in milliseconds, and the duration of the compaction in
    seconds.
    """

    worst_ms: float
    worst_lookup_ms: float
    p99_ms: float
    quiet_worst_ms: float
    quiet_p99_ms: float
    compaction_s: float
    quiet_s: float
    unsent_ms: float


def keep_previous(state: State) -> None:
    """Put an older snapshot beside the one in `state`, so that a compaction removes one as every
    compaction but the first does.

    Removing a large file is what delays other files' syncs most.
    """
    shutil.copyfile(state.directory / NAME, state.directory / PREVIOUS_NAME)
    os.sync()


def stall_round(state: State, directory: Path, snapshot_every: float) -> Stall:
    """Start a daemon, write something, and probe it until that has been compacted."""
    ids = random.sample(state.ids, min(len(state.ids), _PROBED_IDS))
    with Rqdisco(state.directory, directory, "--snapshot-every", str(snapshot_every)) as daemon:
        host, port = daemon.address()
        # The compactor counts its interval from the moment at which the daemon listens.
        compact = time.monotonic() + snapshot_every - _MARGIN
        _write_some(host, port, ids)
        with Probing(host, port, ids, directory) as probing:
            daemon.wait_for_event("snapshot written", snapshot_every + 300)
            end = time.monotonic()
            samples = probing.finish()
    return _judge(samples, compact, end)


class Probing:
    """The prober in a separate process, so that neither side's interpreter delays the other."""

    def __init__(self, host: str, port: int, ids: list[str], directory: Path) -> None:
        file = directory / "ids"
        file.write_text("\n".join(ids))
        command = [sys.executable, "-m", "benchmarks.prober", host, str(port), str(file)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Probing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def finish(self) -> list[Sample]:
        """End the probing."""
        output = self._process.communicate(timeout=60)[0]
        if self._process.returncode != 0:
            raise BenchmarkFailed("the prober did not get an answer that it could use")
        return [Sample(*fields) for fields in json.loads(output)]


def _write_some(host: str, port: int, ids: list[str]) -> None:
    client = Client(host, port)
    for number in range(_WRITTEN_FIRST):
        addr = f"192.168.{number >> 8 & 255}.{number & 255}:4001"
        client.ask("POST", f"/{ids[number % len(ids)]}", {"addr": addr})
    client.close()


def _judge(samples: list[Sample], compact: float, end: float) -> Stall:
    """Compare what was due from `compact` to `end` with as much time before, as far as there was
    probing then.
    """
    during = [sample for sample in samples if compact <= sample.due < end]
    first = min(sample.due for sample in samples) + 0.5
    before = max(first, compact - (end - compact))
    quiet = [sample for sample in samples if before <= sample.due < compact]
    if len(quiet) < 20 or len(during) < 0.99 * (end - compact) / INTERVAL - 2:
        raise BenchmarkFailed(f"{len(quiet)} samples before the compaction and {len(during)} during it are too few")
    lookups = [sample.took for sample in during if sample.kind == "lookup"]
    return Stall(
        worst_ms=1e3 * max(sample.took for sample in during),
        worst_lookup_ms=1e3 * max(lookups),
        p99_ms=1e3 * percentile([sample.took for sample in during], 0.99),
        quiet_worst_ms=1e3 * max(sample.took for sample in quiet),
        quiet_p99_ms=1e3 * percentile([sample.took for sample in quiet], 0.99),
        compaction_s=end - compact - _MARGIN,
        quiet_s=compact - before,
        unsent_ms=1e3 * max(sample.unsent for sample in during),
    )
