"""The figures of stateless daemons over three members of etcd, against etcd itself and against a
daemon with a journal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks import etcd_costs, names
from benchmarks.etcd_costs import CLUSTERS, Formed, Healthy, Million, delay_round, healthy_round, million_round
from benchmarks.etcd_load import CONNECTIONS, Journal, LoadRound, LoadRounds, journal_ids
from benchmarks.etcd_processes import DirectStore, EtcdDaemon, EtcdMembers
from benchmarks.load import WARM_UP_SECONDS
from benchmarks.names import Answers
from benchmarks.processes import BenchmarkFailed, Rqdisco, is_installed
from benchmarks.report import Row, load_rows, ratios
from benchmarks.state import State, make_state

_REGISTRATIONS = (0.5, 0.8)
_COST = (3.0, 1.7)
_LOOKUPS = (0.5, 0.8)
_DELAY = (250.0, 50.0)
_MEMORY = (20.0, 5.0)
_READY = (2.0, 0.7)
_WRITES = (120.0, 60.0)
_NO_LIMITS = (None, None)

Run = Callable[[str, int, Callable[[Path], Any]], Any]


class EtcdSizes(NamedTuple):
    """The size of each part."""

    load_seconds: float
    delay_seconds: float
    dns_seconds: float
    healthy_seconds: float
    ids: int


FULL = EtcdSizes(load_seconds=5, delay_seconds=10, dns_seconds=4, healthy_seconds=40, ids=1_000_000)
QUICK = EtcdSizes(load_seconds=2, delay_seconds=3, dns_seconds=1, healthy_seconds=10, ids=30_000)


class _Everything(NamedTuple):
    load: list[LoadRound]
    delays: list[etcd_costs.Delay]
    dns: list[names.Round]
    legacy: Formed
    consul: Formed
    healthy: list[Healthy]


def etcd_figures(
    directory: Path, run: Run, rounds: int, sizes: EtcdSizes, progress: Callable[[str], None]
) -> tuple[list[Row], list[str]]:
    """Return rows and notes; `run` makes one round of something in a directory of its own."""
    if not is_installed("wrk", "etcd", "dnsperf"):
        raise BenchmarkFailed("wrk, etcd and dnsperf must be installed")
    with EtcdMembers(directory / "etcd") as etcd:
        found = _measure(etcd, directory, run, rounds, sizes, progress)
    with EtcdMembers(directory / "many") as etcd:
        store = DirectStore(etcd, "/many/")
        progress(f"writing {sizes.ids:,} IDs to etcd")
        before = etcd.written()
        ids = store.load(sizes.ids, nodes=3)
        size = etcd.written().since(before).database_bytes
        empty = int(median(run("an empty store", number, lambda work: etcd_costs.empty_bytes(etcd, work))
                           for number in range(rounds)))  # fmt: skip
        many = [
            run(f"{sizes.ids:,} IDs", number, lambda work: million_round(etcd, store, ids, empty, work))
            for number in range(rounds)
        ]
    rows = [*_load_rows(found.load), *_delay_rows(found.delays), *_dns_rows(found.dns)]
    rows += [*_many_rows(many, sizes.ids, size), *_written_rows(found)]
    return rows, [_about_load(sizes), _about_rest(sizes, empty)]


def _measure(
    etcd: EtcdMembers, directory: Path, run: Run, rounds: int, sizes: EtcdSizes, progress: Callable[[str], None]
) -> _Everything:
    store = DirectStore(etcd, "/load/")
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(EtcdDaemon(etcd, directory / name, prefix=store.prefix)) for name in ("first", "second")
        )
        place, other = first.wait_until_ready(), second.wait_until_ready()
        with _journal(directory, rounds, sizes.load_seconds) as journal:
            load_rounds = LoadRounds(etcd, first, store, journal, sizes.load_seconds)
            load = [run("load over etcd", number, lambda _: load_rounds.round()) for number in range(rounds)]
        delays = [
            run("changes", number, lambda work: delay_round(store, place, other, work, sizes.delay_seconds))
            for number in range(rounds)
        ]
        dns = [
            run("names over etcd", number, lambda work: _dns_round(etcd, work, sizes.dns_seconds))
            for number in range(rounds)
        ]
        progress(f"forming {CLUSTERS} clusters of each kind")
        legacy = etcd_costs.legacy_clusters(etcd, place, CLUSTERS)
        named = [f"cluster-{number}" for number in range(CLUSTERS)]
        consul = etcd_costs.consul_clusters(etcd, place, named)
        healthy = [
            run("healthy clusters", number, lambda _: healthy_round(etcd, place, second, named, sizes.healthy_seconds))
            for number in range(rounds)
        ]
    return _Everything(load, delays, dns, legacy, consul, healthy)


@contextmanager
def _journal(directory: Path, rounds: int, seconds: float) -> Iterator[Journal]:
    state = make_state(directory / "journal", journal_ids(WARM_UP_SECONDS) + rounds * journal_ids(seconds), nodes=0)
    with Rqdisco(state.directory, directory / "single") as daemon:
        yield Journal(daemon, directory, state.ids)


def _dns_round(etcd: EtcdMembers, work: Path, seconds: float) -> names.Round:
    store = DirectStore(etcd, f"/dns{work.name}/")
    state = State(work, store.load(names.IDS, nodes=3))
    store.close()
    with EtcdDaemon(etcd, work, *names.OPTIONS, prefix=store.prefix) as daemon:
        return names.daemon_round(daemon, state, work, seconds)


def _load_rows(runs: list[LoadRound]) -> list[Row]:
    registered, direct = [each.registrations for each in runs], [each.direct for each in runs]
    lookups, reads = [each.lookups for each in runs], [each.reads for each in runs]
    journal, grants = [each.journal for each in runs], [each.grants for each in runs]
    return [
        *load_rows("durable registrations over etcd", [each.load for each in registered]),
        Row("durable registrations over etcd: CPU of etcd each", "us", [each.etcd_cpu_us for each in registered]),
        Row("the same transactions, sent to etcd", "1/s", [each.rate for each in direct]),
        Row("the same transactions, sent to etcd: CPU of etcd each", "us", [each.cpu_us for each in direct]),
        *load_rows("durable registrations of a daemon with a journal", journal),
        Row(
            "registrations/s over etcd against the same transactions",
            "ratio",
            ratios(registered, direct, "rate"),
            *_REGISTRATIONS,
            more_is_better=True,
        ),
        Row(
            "CPU of a registration over etcd against one with a journal",
            "ratio",
            ratios(registered, journal, "cpu_us"),
            *_COST,
        ),
        *load_rows("lookups over etcd", [each.load for each in lookups]),
        Row("lookups over etcd: CPU of etcd each", "us", [each.etcd_cpu_us for each in lookups]),
        Row("reads of the same keys, sent to etcd", "1/s", [each.rate for each in reads]),
        Row("reads of the same keys, sent to etcd: CPU of etcd each", "us", [each.cpu_us for each in reads]),
        Row(
            "lookups/s over etcd against reads of the same keys",
            "ratio",
            ratios(lookups, reads, "rate"),
            *_LOOKUPS,
            more_is_better=True,
        ),
        Row("grants over etcd: an ID and its first node", "1/s", [each.rate for each in grants]),
        Row("grants over etcd: CPU each", "us", [each.cpu_us for each in grants]),
    ]


def _delay_rows(runs: list[etcd_costs.Delay]) -> list[Row]:
    what = "from a change to the event at another daemon"
    return [
        Row(f"{what}: p50", "ms", [each.p50_ms for each in runs]),
        Row(f"{what}: p99", "ms", [each.p99_ms for each in runs], *_DELAY),
    ]


def _dns_rows(runs: list[names.Round]) -> list[Row]:
    rows = []
    kinds: list[tuple[str, list[Answers]]] = [("A", [each.a for each in runs]), ("SRV", [each.srv for each in runs])]
    for kind, answers in kinds:
        rows.append(Row(f"DNS answers/s over etcd ({kind})", "1/s", [each.rate for each in answers]))
        rows.append(Row(f"DNS answers/s over etcd ({kind}): CPU each", "us", [each.cpu_us for each in answers]))
    return rows


def _many_rows(runs: list[Million], count: int, size: float) -> list[Row]:
    limits = (_MEMORY, _READY) if count == FULL.ids else (_NO_LIMITS, _NO_LIMITS)
    return [
        Row(
            f"memory of a daemon with {count:,} IDs in etcd, above an empty one",
            "MiB",
            [each.added_mib for each in runs],
            *limits[0],
        ),
        Row(f"start to ready, {count:,} IDs in etcd", "s", [each.ready_s for each in runs], *limits[1]),
        Row(f"start to the first lookup, {count:,} IDs in etcd", "s", [each.first_answer_s for each in runs]),
        Row(f"export of {count:,} IDs in etcd", "s", [each.export_s for each in runs]),
        Row("database of etcd for each ID of three nodes", "B", [size / count]),
    ]


def _written_rows(found: _Everything) -> list[Row]:
    healthy = found.healthy
    revisions = [each.revisions for each in healthy]
    rows = [
        Row("writes to etcd per healthy cluster and hour, consul-kv", "revisions", revisions, *_WRITES),
        Row("the same in entries of etcd's log", "entries", [each.entries for each in healthy], *_WRITES),
        Row("the same in bytes of etcd's log a day", "KiB", [each.log_bytes * 24 / 1024 for each in healthy]),
    ]
    for kind, formed in (("consul-kv", found.consul), ("legacy", found.legacy)):
        rows += [
            Row(f"writes to etcd to form a cluster, {kind}", "revisions", [formed.revisions]),
            Row(f"writes to etcd to form a cluster, {kind}: log", "entries", [formed.entries]),
            Row(f"writes to etcd to form a cluster, {kind}: log", "KiB", [formed.log_bytes / 1024]),
        ]
    return [
        *rows,
        Row("an idle daemon: requests to etcd", "1/s", [each.idle_requests for each in healthy]),
        Row("an idle daemon: CPU", "ms/s", [each.idle_cpu_ms for each in healthy]),
    ]


def _about_load(sizes: EtcdSizes) -> str:
    return (
        f"Load: {sizes.load_seconds:.0f} s a round by wrk with one thread and {CONNECTIONS} keep-alive connections."
        " etcd has three members and syncs its log, all on the same machine and disk as the daemons. Three nodes"
        " register under each ID, which had none. Sent to etcd, each registration is the two requests of a program"
        " that writes one registration at a time, over as many connections: a linearizable read of the three keys of"
        " the ID, and a transaction that compares and puts the same keys and values as a daemon does, with leases"
        " where a daemon has them. The first endpoint of the daemon is etcd's leader, which also gets what is sent"
        " directly. wrk takes turns between all of them within a round. A grant is an ID that is created and its first"
        " registration."
    )


def _about_rest(sizes: EtcdSizes, empty: float) -> str:
    return (
        "Changes: a registration every 20 ms or more at one daemon, each under one of 50 IDs that another daemon's"
        " clients watch, while 50 other registrations and 50 lookups a second arrive, counted from when it is sent."
        f" DNS: as in RESULTS.md, {names.IDS:,} IDs, answered from a cache of a second. Memory: VmRSS, above the"
        f" {empty / 2**20:.1f} MiB of a daemon with one ID, after {etcd_costs.LOOKUPS:,} lookups and a full"
        " `rqdisco export`; ready is when `/readyz?grant=1` is 200. Writes: the leaders of"
        f" {CLUSTERS} clusters report every 10 s for {sizes.healthy_seconds:.0f} s a round, through one daemon; nodes"
        " of a healthy legacy cluster send nothing. To form a cluster: one every half second, until all leases have"
        " expired. An idle daemon is measured meanwhile; its requests are those that it counts itself, and besides it"
        " asks each member for its status every 5 s."
    )
