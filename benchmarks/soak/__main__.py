"""`python -m benchmarks.soak`: run for ten minutes, print the table and store it."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import NAMES
from benchmarks.processes import BenchmarkFailed
from benchmarks.report import Row, machine, percentile, table
from benchmarks.soak.cluster import Cluster
from benchmarks.soak.faults import RECOVERY_SECONDS, Faults
from benchmarks.soak.load import Acknowledged, SlowRequest, Worker, workers

RESULTS = Path(__file__).parents[1] / "RESULTS-SOAK.md"
FULL_SECONDS = 600
IDS = 100_000
RATE = 300
_SAMPLE_SECONDS = 2.0
# A process needs time to fill its caches, for instance those of the allocator, and for its first
# compaction.
_WARM_UP_SECONDS = 75.0
_SETTLE_SECONDS = 120.0
_ANSWER_SECONDS = 8.0
_WRITES = ("register", "remove", "create", "claim", "report")


class Memory(threading.Thread):
    """VmRSS of each daemon over time; a series of samples is of one process."""

    def __init__(self, cluster: Cluster, ending: threading.Event) -> None:
        super().__init__(daemon=True)
        self._cluster = cluster
        self._ending = ending
        self.samples: dict[tuple[str, int], list[tuple[float, int]]] = {}

    def run(self) -> None:
        while not self._ending.wait(_SAMPLE_SECONDS):
            for name in NAMES:
                daemon = self._cluster.daemon(name)
                try:
                    sample = time.monotonic(), daemon.resident_bytes()
                except (OSError, BenchmarkFailed):
                    continue
                self.samples.setdefault((name, daemon.pid), []).append(sample)

    def slopes(self, name: str) -> list[float]:
        """Return the MiB per minute of each process that ran long enough, after it was warm."""
        found = []
        for (whose, _), samples in self.samples.items():
            warm = [each for each in samples if each[0] >= samples[0][0] + _WARM_UP_SECONDS]
            if whose == name and len(warm) >= 20:
                found.append(60 * _slope(warm) / 2**20)
        return found

    def most(self, name: str) -> float:
        """Return the maximum, in MiB."""
        return max(size for (whose, _), each in self.samples.items() if whose == name for _, size in each) / 2**20


def _slope(points: Sequence[tuple[float, int]]) -> float:
    """Return the slope of the least-squares line."""
    middle = sum(x for x, _ in points) / len(points)
    mean = sum(y for _, y in points) / len(points)
    above = sum((x - middle) * (y - mean) for x, y in points)
    return above / sum((x - middle) ** 2 for x, _ in points)


def soak(cluster: Cluster, seconds: float) -> tuple[list[Worker], Faults, Memory, float]:
    """Run everything for this long."""
    ending = threading.Event()
    faults = Faults(cluster, seconds)
    ids = [discovery_id for state in cluster.made.values() for discovery_id in state.ids]
    clients = workers(RATE, lambda name: cluster.where[name], ids, faults.is_calm, ending)
    memory = Memory(cluster, ending)
    begun = time.monotonic()

    def wait(until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 1.0))
            failed = next((client.error for client in clients if client.error is not None), None)
            if failed is not None:
                raise failed

    for thread in (memory, *clients):
        thread.start()
    try:
        faults.run(begun, wait, _progress)
        wait(begun + seconds)
    finally:
        ending.set()
    for client in clients:
        client.join(30)
    return clients, faults, memory, begun


def settled(cluster: Cluster) -> dict[str, dict[str, Any]]:
    """Return what each daemon holds once all hold the same: its records by their IDs. Raises
    BenchmarkFailed.
    """
    begun = time.monotonic()
    while True:
        held = {name: _records(cluster.export(name)) for name in NAMES}
        if held["a"] == held["b"] == held["c"]:
            return held
        if time.monotonic() - begun > _SETTLE_SECONDS:
            differ = [key for key in held["a"].keys() | held["b"].keys() | held["c"].keys()
                      if len({json.dumps(held[name].get(key)) for name in NAMES}) > 1]  # fmt: skip
            raise BenchmarkFailed(f"daemons differ after {_SETTLE_SECONDS} s about {len(differ)} IDs: {differ[:3]}")
        time.sleep(2)


def _records(export: bytes) -> dict[str, Any]:
    return {record["id"]: record for record in json.loads(export)["records"]}


def lost(held: dict[str, Any], preloaded: dict[str, list[str]], acknowledged: Iterable[Acknowledged]) -> list[str]:
    """Return everything acknowledged that is not so."""
    nodes = {key: {node["addr"] for node in record.get("nodes", ())} for key, record in held.items()}
    found = [
        f"{key}: not all of the first" for key, addrs in preloaded.items() if not nodes.get(key, set()) >= {*addrs}
    ]
    for each in acknowledged:
        found += [f"{key}: {addr} is not there" for key, addr in each.there if addr not in nodes.get(key, ())]
        found += [f"{key}: {addr} is there again" for key, addr in each.gone if addr in nodes.get(key, ())]
        found += [f"{key}: was created" for key in each.created if key not in held]
        found += [
            f"{key}: is led by another"
            for key, value in each.led.items()
            if held.get(key, {}).get("leader", {}).get("value") != value
        ]
    return found


def while_well(asked: list[SlowRequest], faults: Faults) -> list[SlowRequest]:
    """Return those that no fault affected, then or a moment before."""
    return [
        each
        for each in asked
        if not any(window.begin <= each.due + each.took and each.due <= window.end for window in faults.windows)
    ]


def rows(asked: list[SlowRequest], skipped: int, faults: Faults, memory: Memory, seconds: float) -> list[Row]:
    """Return the figures."""
    calm = while_well(asked, faults)
    calm_seconds = seconds - sum(window.end - window.begin for window in faults.windows)
    found = [
        Row("requests", "1/s", [len(asked) / seconds]),
        Row(
            "requests while all is well",
            "1/s",
            [len(calm) / calm_seconds],
            0.9 * RATE,
            0.95 * RATE,
            more_is_better=True,
        ),
        Row("requests that found all clients waiting", "", [float(skipped)]),
    ]
    for what, kinds, must, aim in (
        ("reads", ("read",), 250.0, 50.0),
        ("changes", _WRITES, 400.0, 100.0),
        ("DNS", ("dns",), 250.0, 50.0),
    ):
        took = [1e3 * each.took for each in calm if each.kind in kinds]
        found += [
            Row(f"{what} while all is well: p50", "ms", [percentile(took, 0.5)]),
            Row(f"{what} while all is well: p99", "ms", [percentile(took, 0.99)], must, aim),
            Row(f"{what} while all is well: worst", "ms", [max(took)]),
        ]
    bad = [each for each in calm if each.status != 200]
    wrong = [each for each in asked if each.status not in (200, 503, -1)]
    late = [each for each in asked if each.status != -1 and each.took > _ANSWER_SECONDS and each.daemon != "a"]
    found += [
        Row("not 200 while all is well", "", [float(len(bad))], 0, 0),
        Row("neither 200 nor 503 nor no answer, at any time", "", [float(len(wrong))], 0, 0),
        Row("503 while something is wrong", "", [float(sum(each.status == 503 for each in asked))]),
        Row("no answer, from who was killed or stopped", "", [float(sum(each.status == -1 for each in asked))]),
        Row("answered after 8 s, but for who was stopped", "", [float(len(late))], 0, 0),
    ]
    for name in NAMES:
        slopes = memory.slopes(name)
        if slopes:
            found.append(Row(f"memory of {name}: slope, each process by itself", "MiB/min", slopes, 3.0, 1.0))
        found.append(Row(f"memory of {name}: most", "MiB", [memory.most(name)]))
    return found


def main() -> None:
    """Run, judge, print; store the figures of a run at full length."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=FULL_SECONDS, help="how long [default: 600, which is kept]")
    parser.add_argument("--ids", type=int, default=IDS, help="how many there are [default: 100000, which is kept]")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    about = machine()
    with (
        tempfile.TemporaryDirectory(prefix="rqdisco-soak-") as directory,
        Cluster(Path(directory), options.ids) as cluster,
    ):
        _progress(f"three daemons hold {options.ids:,} IDs")
        try:
            clients, faults, memory, begun = soak(cluster, options.seconds)
            held = settled(cluster)
            _progress("all hold the same; all are killed at once, and started again")
            missing = {
                "while they run": lost(held["a"], cluster.preloaded(), [client.acknowledged for client in clients])
            }
            for name in NAMES:
                cluster.kill(name)
            for name in NAMES:
                cluster.restart(name)
            held = settled(cluster)
            missing["after all were killed"] = lost(
                held["a"], cluster.preloaded(), [client.acknowledged for client in clients]
            )
            cluster.finish()
        except BenchmarkFailed as failure:
            sys.exit(f"soak failed: {failure}")
        asked = [each for client in clients for each in client.asked]
        seconds = max(each.due for each in asked) - begun
        figures = rows(asked, sum(len(client.skipped) for client in clients), faults, memory, seconds)
        for when, what in missing.items():
            figures.append(Row(f"acknowledged and lost, {when}", "", [float(len(what))], 0, 0))
            _progress("\n".join(what[:10]))
        windows = ", ".join(f"{window.what} at {window.begin - begun:.0f} s" for window in faults.windows)
        kinds = Counter(each.kind for each in asked)
        notes = [
            f"{seconds:.0f} s, {len(held['a']):,} IDs at the end; {RATE} requests a second, a third to each daemon: "
            + ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common()),
            f"Faults: {windows}; then all three killed at once. All is well but for these, and {RECOVERY_SECONDS:.0f} s"
            " after each was mended.",
            "Latencies are counted from when a request was due, of clients in Python on the same machine.",
            "Logged as errors: " + (", ".join(f"{text} ({n})" for text, n in cluster.complaints.items()) or "nothing"),
        ]
        ends = [window.end for window in faults.windows]
        refused = Counter(
            f"{each.kind} at {each.daemon}: {each.status} {each.reason}, "
            f"{min((each.due - end for end in ends if end <= each.due), default=each.due - begun):.0f} s after a fault"
            for each in while_well(asked, faults)
            if each.status != 200
        )
        if refused:
            notes.append("Not 200 while all is well: " + "; ".join(f"{n} {what}" for what, n in refused.most_common(8)))
        if cluster.small is None:
            notes.append("No disk was full: that takes root.")
    text = f"{table(figures)}\n" + "".join(f"- {note}\n" for note in notes)
    print(text, end="")
    if options.seconds >= FULL_SECONDS and options.ids == IDS:
        lines = "".join(f"- {line}\n" for line in about)
        RESULTS.write_text(f"# Results of `python -m benchmarks.soak`\n\n{lines}\n{text}")
    if any(row.cells()[-1] == "NO" for row in figures):
        sys.exit(1)


def _progress(text: str) -> None:
    if text:
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
