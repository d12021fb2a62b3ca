"""`python -m benchmarks [--quick] [--rounds N] [--seconds N] [--only PART]`; `--help` lists the parts."""

from __future__ import annotations

import argparse
import compileall
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeVar

from benchmarks import etcd, kv, names
from benchmarks.load_figures import core_figures, load_figures
from benchmarks.names import Answers
from benchmarks.peer_figures import peer_figures
from benchmarks.processes import BenchmarkFailed, is_installed
from benchmarks.report import Row, bullets, load_rows, machine, ratios, summary, table, warnings
from benchmarks.scale import empty_bytes, scale_round
from benchmarks.server_figures import floods_figures, pipelines_figures
from benchmarks.stall import keep_previous, stall_round
from benchmarks.state import State, make_state
from benchmarks.trio import trio_figures
from benchmarks.watch import WATCHERS, watch_round

T = TypeVar("T")
# A part that repeats the main figures of others, for use during development.
_CORE = "core"
_CORE_SECONDS = 2.0
_PARTS = ("load", "kv", "names", "scale", "stall", "peers", "trio", "watch", "pipelines", "floods", "etcd")
HERE = Path(__file__).parent


# The limits and the goals. Memory and stall have them for the largest state only.
_NAMES = (0.15, 0.3)
_LARGEST = 1_000_000
_MEMORY = (0.46, 0.40)
_STARTUP = {100_000: (0.5, 0.35), _LARGEST: (1.98, 1.5)}
_STALL = (16.1, 10.0)
_PROPAGATION = (250.0, 50.0)
_NOTHING = (None, None)


class Sizes(NamedTuple):
    """The size of each part."""

    seconds: float
    ids: tuple[int, ...]
    snapshot_every: float
    changed: int


FULL = Sizes(seconds=8, ids=(100_000, _LARGEST), snapshot_every=15, changed=900_000)
QUICK = Sizes(seconds=2, ids=(10_000, 50_000), snapshot_every=6, changed=20_000)


class Benchmark:
    """Measures, and collects rows and notes. Everything is written under `directory`."""

    def __init__(self, directory: Path, sizes: Sizes, rounds: int) -> None:
        self._directory = directory
        self._sizes = sizes
        self._rounds = rounds
        self._states: dict[int, State] = {}
        self.rows: list[Row] = []
        self.notes: list[str] = []

    def measure(self, parts: Iterable[str]) -> list[str]:
        """Measure these parts; return what failed, of which there are no figures, or not all."""
        failures = []
        for part in parts:
            try:
                getattr(self, part)()
            except (BenchmarkFailed, OSError) as failure:
                failures.append(f"NOT MEASURED: {part}: {failure}")
                _progress(failures[-1])
        return failures

    def core(self) -> None:
        """Measure the main figures of the load, quickly."""
        with tempfile.TemporaryDirectory(dir=self._directory) as work:
            rows, notes = core_figures(Path(work), self._rounds, self._sizes.seconds, _progress)
        self.rows += rows
        self.notes += notes

    def load(self) -> None:
        """Measure rqdisco, the floor and etcd in turn, each on a fresh state directory."""
        rows, notes = load_figures(self._round, self._rounds, self._sizes.seconds)
        self.rows += rows
        self.notes += notes

    def kv(self) -> None:
        """Measure rqdisco and etcd in turn, each on a fresh state directory."""
        has_wrk, has_etcd = is_installed("wrk"), is_installed("wrk", "etcd")
        seconds = self._sizes.seconds
        ours, theirs = [], []
        for number in range(self._rounds if has_wrk else 0):
            ours.append(self._round("kv, rqdisco", number, lambda work: kv.rqdisco_round(work, seconds)))
            if has_etcd:
                theirs.append(self._round("kv, etcd", number, lambda work: kv.etcd_round(work, seconds)))
        reads = [both.reads for both in ours]
        self.rows += load_rows("KV leader reports", [both.reports for both in ours])
        self.rows += load_rows("KV reads", reads)
        self.rows += load_rows("etcd: reads", theirs)
        self.rows += [
            Row("KV reads/s against etcd's reads/s", "ratio", ratios(reads, theirs, "rate")),
            Row("CPU of a KV read against that of an etcd read", "ratio", ratios(reads, theirs, "cpu_us")),
        ]
        self.notes.append(
            f"KV: leader keys of {kv.IDS:,} IDs, by wrk as the load is. A report is a plain PUT of the present value,"
            " as a leader repeats it, and is durable when it is answered. etcd is read through its JSON"
            " gateway, one key a request, linearizable."
        )

    def names(self) -> None:
        """Measure rqdisco and dnsmasq in turn, with the same records."""
        has_dnsperf, has_dnsmasq = is_installed("dnsperf"), is_installed("dnsperf", "dnsmasq")
        state, seconds = self._state(names.IDS), self._sizes.seconds
        ours, theirs = [], []
        for number in range(self._rounds if has_dnsperf else 0):
            ours.append(self._round("names, rqdisco", number, lambda work: names.rqdisco_round(state, work, seconds)))
            if has_dnsmasq:
                theirs.append(
                    self._round("names, dnsmasq", number, lambda work: names.dnsmasq_round(state, work, seconds))
                )
        a, their_a = [both.a for both in ours], [both.a for both in theirs]
        srv, their_srv = [both.srv for both in ours], [both.srv for both in theirs]
        self._name_rows("DNS answers/s (A)", a)
        self._name_rows("dnsmasq: DNS answers/s (A)", their_a)
        self._name_rows("DNS answers/s (SRV)", srv)
        self._name_rows("dnsmasq: DNS answers/s (SRV)", their_srv)
        self.rows += [
            Row(
                "DNS answers/s (A) against dnsmasq's",
                "ratio",
                ratios(a, their_a, "rate"),
                *_NAMES,
                more_is_better=True,
            ),
            Row("CPU of an A answer against that of one of dnsmasq's", "ratio", ratios(a, their_a, "cpu_us")),
            Row("DNS answers/s (SRV) against dnsmasq's", "ratio", ratios(srv, their_srv, "rate")),
        ]
        self.notes.append(
            f"DNS: {seconds:.0f} s a round by dnsperf with {names.CLIENTS} sockets, one query of each in flight,"
            f" over UDP and with EDNS; {names.IDS:,} IDs with three nodes, queried in turn. Before the measurement, the"
            " answers of each server to all queries are compared with the registrations; no query may stay"
            " unanswered. Latencies are dnsperf's. dnsmasq has the addresses in a hosts file, and for SRV the services"
            " as srv-host lines besides, all of which it walks through for each query; for A it has none of them."
        )

    def scale(self) -> None:
        """Measure starts on many IDs."""
        empty = int(median(self._round("empty daemon", number, empty_bytes) for number in range(self._rounds)))
        for count in self._sizes.ids:
            self._starts(self._state(count), empty)
        self.notes.append(
            'Memory and start-up: three nodes an ID; memory is VmRSS after the first answer, "above an empty daemon"'
            f" less the {empty / 2**20:.1f} MiB of a daemon with one ID; the snapshot is in the page cache when the"
            " daemon starts."
        )

    def _starts(self, state: State, empty: int) -> None:
        count = len(state.ids)
        runs = [
            self._round(f"start with {count:,} IDs", number, lambda work: scale_round(state, work, empty))
            for number in range(self._rounds)
        ]
        memory, startup = _MEMORY if count == _LARGEST else _NOTHING, _STARTUP.get(count, _NOTHING)
        self.rows += [
            Row(f"memory per ID, {count:,} IDs, above an empty daemon", "KiB", [r.added_kib for r in runs], *memory),
            Row(f"memory per ID, {count:,} IDs, all of the daemon", "KiB", [r.plain_kib for r in runs], *memory),
            Row(f"start-up to the first answer, {count:,} IDs", "s", [r.startup_s for r in runs], *startup),
        ]

    def stall(self) -> None:
        """Measure the compaction of many IDs."""
        count = self._sizes.ids[-1]
        state, every = self._state(count), self._sizes.snapshot_every
        keep_previous(state)
        runs = [
            self._round(f"compaction of {count:,} IDs", number, lambda work: stall_round(state, work, every))
            for number in range(self._rounds)
        ]
        wanted = _STALL if count == _LARGEST else _NOTHING
        self.rows += [
            Row(f"worst stall while {count:,} IDs are compacted", "ms", [run.worst_ms for run in runs], *wanted),
            Row("worst lookup while they are compacted", "ms", [run.worst_lookup_ms for run in runs]),
            Row("p99 while they are compacted", "ms", [run.p99_ms for run in runs]),
            Row("worst stall while nothing is compacted", "ms", [run.quiet_worst_ms for run in runs]),
            Row("p99 while nothing is compacted", "ms", [run.quiet_p99_ms for run in runs]),
            Row("duration of the compaction", "s", [run.compaction_s for run in runs]),
        ]
        self.notes.append(
            "Stall: a lookup or a registration every 10 ms, counted from the moment it was due. A compaction removes"
            " the older snapshot of the same size, as every one but the first does. Nothing is compacted in"
            f" the {median(run.quiet_s for run in runs):.1f} s before. During compaction, the prober was late by"
            f" {max(run.unsent_ms for run in runs):.1f} ms at worst, which is in the figures."
        )

    def peers(self) -> None:
        """Measure three peer daemons."""
        rows, notes = peer_figures(self._round, self._rounds, self._sizes.seconds, self._sizes.changed)
        self.rows += rows
        self.notes += notes

    def trio(self) -> None:
        """Measure three peer daemons against three members of etcd, with requests to all of them."""
        with tempfile.TemporaryDirectory(dir=self._directory) as work:
            rows, notes = trio_figures(Path(work), self._rounds, self._sizes.seconds, _progress)
        self.rows += rows
        self.notes += notes

    def watch(self) -> None:
        """Measure many watchers of one ID."""
        runs = [self._round("watch", number, watch_round) for number in range(self._rounds)]
        who = f"the last of {WATCHERS:,} watchers receives a registration"
        self.rows += [
            Row(f"{who}: p50", "ms", [run.p50_ms for run in runs]),
            Row(f"{who}: p99", "ms", [run.p99_ms for run in runs], *_PROPAGATION),
            Row(f"CPU of an event to {WATCHERS:,} watchers", "ms", [run.cpu_ms for run in runs]),
        ]
        self.notes.append(
            f"Watch: {WATCHERS:,} connections of one process on the same machine watch one ID of three nodes; a node"
            " registers, and is removed, whenever all have received the last change. Counted from when a registration"
            " is sent until the last connection has read its event, with what reading all of them takes that process."
        )

    def pipelines(self) -> None:
        """Measure `/healthz` while one client pipelines requests."""
        rows, notes = pipelines_figures(self._round, self._rounds, self._sizes.seconds / 2)
        self.rows += rows
        self.notes += notes

    def floods(self) -> None:
        """Measure registrations under floods."""
        rows, notes = floods_figures(self._round, self._rounds, self._sizes.seconds / 2)
        self.rows += rows
        self.notes += notes

    def etcd(self) -> None:
        """Measure stateless daemons over three members of etcd."""
        sizes = etcd.QUICK if self._sizes.ids != FULL.ids else etcd.FULL
        with tempfile.TemporaryDirectory(dir=self._directory) as work:
            rows, notes = etcd.etcd_figures(Path(work), self._round, self._rounds, sizes, _progress)
        self.rows += rows
        self.notes += notes

    def _name_rows(self, what: str, runs: list[Answers]) -> None:
        self.rows += [
            Row(what, "1/s", [run.rate for run in runs]),
            Row(f"{what}: mean latency", "ms", [run.mean_ms for run in runs]),
            Row(f"{what}: worst latency", "ms", [run.worst_ms for run in runs]),
            Row(f"{what}: CPU each", "us", [run.cpu_us for run in runs]),
        ]

    def _state(self, count: int) -> State:
        if count not in self._states:
            _progress(f"making a state directory of {count:,} IDs")
            self._states[count] = make_state(self._directory / f"state-{count}", count)
        return self._states[count]

    def _round(self, what: str, number: int, run: Callable[[Path], T]) -> T:
        _progress(f"{what}: round {number + 1} of {self._rounds}")
        with tempfile.TemporaryDirectory(dir=self._directory) as work:
            result = run(Path(work))
        _progress(f"  {result}")
        return result


def main() -> None:
    """Measure, print the table and store it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures what rqdisco costs.")
    parser.add_argument("--quick", action="store_true", help="smaller numbers, for a trial; nothing is stored")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="medians are quoted [default: 3]")
    parser.add_argument(
        "--seconds", type=int, metavar="N", help="duration of one run of load; nothing is stored [default: 8; core: 2]"
    )
    parser.add_argument(
        "--only",
        choices=(_CORE, *_PARTS),
        help="one part only, stored separately; core takes a minute, shows the main figures of load and stores nothing",
    )
    options = parser.parse_args()
    if options.rounds < 1 or (options.seconds is not None and options.seconds < 1):
        parser.error("--rounds and --seconds must be 1 at least")
    sizes = QUICK if options.quick else FULL
    if options.only == _CORE and not options.quick:
        sizes = sizes._replace(seconds=_CORE_SECONDS)
    if options.seconds is not None:
        sizes = sizes._replace(seconds=float(options.seconds))
    is_trial = options.quick or options.seconds is not None or options.only == _CORE
    # Clean up on termination from outside too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # As pip does when it installs the package; or each start of a daemon would compile it.
    compileall.compile_dir(str(HERE.parent / "rqdisco"), quiet=1)
    description = machine()
    with tempfile.TemporaryDirectory(prefix="rqdisco-benchmark-") as directory:
        benchmark = Benchmark(Path(directory), sizes, options.rounds)
        failures = benchmark.measure(_PARTS if options.only is None else (options.only,))
    figures = table(benchmark.rows)
    rounds = 'The median of the rounds is quoted. "must" is the limit, "aim" the goal.'
    notes = bullets((*warnings(), *failures, summary(benchmark.rows), rounds, *benchmark.notes))
    print(figures, notes, sep="\n", end="")
    if not is_trial:
        about = bullets(description)
        command, name = "python -m benchmarks", "RESULTS"
        if options.only is not None:
            command, name = f"{command} --only {options.only}", f"{name}-{options.only.upper()}"
        (HERE / f"{name}.md").write_text(f"# Results of `{command}`\n\n{about}\n{figures}\n{notes}")
    if failures:
        sys.exit("benchmark failed")


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
