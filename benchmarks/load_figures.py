"""The figures of one daemon under load, against etcd and against the floor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.load import CONNECTIONS, CoreRound, Load, core_rounds, etcd_round, floor_round, rqdisco_round
from benchmarks.processes import BenchmarkFailed, is_installed
from benchmarks.report import Row, load_rows, ratios

_SAME_JOB = (2.2, 3.0)
_SAME_JOB_COST = (0.30, 0.22)
_PUTS = (0.9, 1.1)
_PUTS_COST = (1.2, 0.8)
_READS = (3.0, 4.0)
_FLOOR_COST = (4.0, 2.5)

Run = Callable[[str, int, Callable[[Path], Any]], Any]


def load_figures(run: Run, rounds: int, seconds: float) -> tuple[list[Row], list[str]]:
    """Return rows and notes; `run` makes one round of something, on a fresh state directory."""
    has_wrk, has_etcd = is_installed("wrk"), is_installed("wrk", "etcd")
    ours, floor, theirs = [], [], []
    for number in range(rounds if has_wrk else 0):
        ours.append(run("load, rqdisco", number, lambda work: rqdisco_round(work, seconds)))
        floor.append(run("load, the floor", number, lambda work: floor_round(work, seconds)))
        if has_etcd:
            theirs.append(run("load, etcd", number, lambda work: etcd_round(work, seconds)))
    registrations, lookups = [both.registrations for both in ours], [both.lookups for both in ours]
    transactions, puts = [each.transactions for each in theirs], [each.puts for each in theirs]
    reads = [each.reads for each in theirs]
    rows = [
        *load_rows("durable registrations", registrations),
        *load_rows("lookups", lookups),
        *load_rows("the floor: static answers", floor),
        *load_rows("etcd: the same job, in a transaction", transactions),
        *load_rows("etcd: durable puts", puts),
        *load_rows("etcd: reads of one key", reads),
        *_comparisons(registrations, lookups, floor, transactions, puts, reads),
    ]
    notes = [
        f"Load: {seconds:.0f} s a round by wrk with one thread and {CONNECTIONS} keep-alive connections on the"
        " same machine; every registration is of an address that is new to its ID, about four to an ID; CPU is user"
        " and system time of the daemon's process, which logs every registration to a file. p50 and p99 are wrk's,"
        " which adds what a stall kept it from sending. etcd has one member and is used through its JSON gateway,"
        " a key for each node. The same job is a transaction that puts a new node's key and reads all keys of its ID,"
        " as a registration does. The floor is a server on Twisted that parses requests with llhttp and answers each"
        " registration with the same bytes, which are those of a real answer. Ratios are taken within a round.",
        _disturbance(*registrations, *lookups, *floor, *transactions, *puts, *reads),
    ]
    return rows, notes


def core_figures(
    directory: Path, rounds: int, seconds: float, progress: Callable[[str], None]
) -> tuple[list[Row], list[str]]:
    """Return rows of rates, costs and ratios, and notes, from daemons that are started once."""
    if not is_installed("wrk", "etcd"):
        raise BenchmarkFailed("wrk and etcd must be installed")
    runs: list[CoreRound] = []
    for each in core_rounds(directory, seconds, rounds):
        runs.append(each)
        progress(f"core: round {len(runs)} of {rounds}")
    kinds = [[getattr(each, name) for each in runs] for name in CoreRound._fields]
    names = ("durable registrations", "lookups", "the floor", "etcd: the same job", "etcd: puts", "etcd: reads")
    rows = []
    for name, loads in zip(names, kinds, strict=True):
        rows.append(Row(name, "1/s", [load.rate for load in loads]))
        rows.append(Row(f"{name}: CPU each", "us", [load.cpu_us for load in loads]))
    return rows + _comparisons(*kinds), [_disturbance(*(load for loads in kinds for load in loads))]


def _disturbance(*loads: Load) -> str:
    """Return a note about what other processes took, which affects the rate of etcd most: it would
    use more cores than there are.
    """
    cores = [load.disturbance for load in loads] or [0.0]
    return f"Other processes kept {median(cores):.2f} cores busy during a run, and {max(cores):.2f} at worst."


def _comparisons(
    registrations: Sequence[Load],
    lookups: Sequence[Load],
    floor: Sequence[Load],
    transactions: Sequence[Load],
    puts: Sequence[Load],
    reads: Sequence[Load],
) -> list[Row]:
    job, put = "the same job in etcd", "that of an etcd put"
    return [
        _ratio(f"registrations/s against {job}", registrations, transactions, "rate", _SAME_JOB),
        _ratio(f"CPU of a registration against {job}", registrations, transactions, "cpu_us", _SAME_JOB_COST),
        _ratio("registrations/s against etcd's puts/s", registrations, puts, "rate", _PUTS),
        _ratio(f"CPU of a registration against {put}", registrations, puts, "cpu_us", _PUTS_COST),
        _ratio("lookups/s against etcd's reads/s", lookups, reads, "rate", _READS),
        _ratio("CPU of a registration against the floor", registrations, floor, "cpu_us", _FLOOR_COST),
    ]


def _ratio(name: str, ours: Sequence[Load], theirs: Sequence[Load], figure: str, bounds: tuple[float, float]) -> Row:
    return Row(name, "ratio", ratios(ours, theirs, figure), *bounds, more_is_better=figure == "rate")
