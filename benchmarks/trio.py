"""The same job of three peer daemons and of three members of etcd, with requests to all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from benchmarks.load import (
    CONNECTIONS,
    WARM_UP_SECONDS,
    Bench,
    Load,
    Place,
    check_in_etcd,
    check_registered,
    enough,
    etcd_ids,
    puts,
    registrations,
    transactions,
)
from benchmarks.peers import NAMES, Peers, fresh, wait_until_held
from benchmarks.processes import BenchmarkFailed, EtcdSet, is_installed
from benchmarks.report import Row, load_rows, ratios
from benchmarks.state import make_state

_SAME_JOB = (1.2, 2.0)
_NODES = 4
# Rounds are split into so many shorter ones, so that what else the machine does slows both alike.
_SPLIT = 4
# More registrations than are made in a second, of each kind.
_PER_SECOND = 10_000
# The slowest server may get less than its share.
_LEAST_SHARE = 0.5


class TrioRound(NamedTuple):
    """One run of each kind; CPU time is that of all daemons, or of all members of etcd."""

    anywhere: Load
    at_owners: Load
    transactions: Load
    puts: Load


class PeersLoad:
    """Measures runs against three daemons, each of which owns an equal number of IDs without
    nodes.
    """

    def __init__(self, peers: Peers, places: dict[str, Place], owned: dict[str, list[str]], directory: Path) -> None:
        self._places = [places[name] for name in NAMES]
        self._unused = [owned[name] for name in NAMES]
        self._bench = Bench(peers, *self._places[0], directory, CONNECTIONS * len(NAMES))
        self._rates = {"anywhere": _PER_SECOND / 3, "at owners": _PER_SECOND / 3}
        for kind, run in (("anywhere", self.anywhere), ("at owners", self.at_owners)):
            self._rates[kind] = run(WARM_UP_SECONDS).rate

    def anywhere(self, seconds: float) -> Load:
        """Measure registrations of which each daemon forwards two thirds to the owners."""
        owned = self._take("anywhere", seconds)
        count = len(NAMES)
        return self._run("anywhere", [_mixed(ids[number::count] for ids in owned) for number in range(count)], seconds)

    def at_owners(self, seconds: float) -> Load:
        """Measure registrations at the owners of their IDs."""
        return self._run("at owners", self._take("at owners", seconds), seconds)

    def _run(self, kind: str, shares: list[list[str]], seconds: float) -> Load:
        requests = [islice(registrations(ids), enough(self._rates[kind], seconds)) for ids in shares]
        done = self._bench.run_spread(self._places, requests, seconds)
        for (host, port), ids in zip(self._places, shares, strict=True):
            least = _LEAST_SHARE * done.rate * seconds / len(NAMES)
            check_registered(host, port, ids, least, "?consistent=1")
        return done

    def _take(self, kind: str, seconds: float) -> list[list[str]]:
        """Return unused IDs of each owner, of which each gets about `_NODES` nodes."""
        count = len(NAMES) * max(1, int(self._rates[kind] * seconds / _NODES / len(NAMES) ** 2))
        taken = [ids[:count] for ids in self._unused]
        self._unused = [ids[count:] for ids in self._unused]
        if len(self._unused[-1]) == 0:
            raise BenchmarkFailed("there are too few IDs for this rate")
        return taken


class MembersLoad:
    """Measures runs against three members of etcd, for up to `count` IDs of each kind."""

    def __init__(self, etcd: EtcdSet, directory: Path, count: int) -> None:
        self._places = [member.address() for member in etcd.members]
        self._bench = Bench(etcd, *self._places[0], directory, CONNECTIONS * len(self._places))
        self._rates = {"txns": _PER_SECOND / 3, "puts": _PER_SECOND / 3}
        self._unused = {kind: etcd_ids(kind, count) for kind in self._rates}
        for kind, run in (("txns", self.transactions), ("puts", self.puts)):
            self._rates[kind] = run(WARM_UP_SECONDS).rate

    def transactions(self, seconds: float) -> Load:
        """Measure puts of a new node's key with a range over its ID's keys, in one transaction."""
        return self._run("txns", transactions, seconds)

    def puts(self, seconds: float) -> Load:
        """Measure puts of new nodes' keys."""
        return self._run("puts", puts, seconds)

    def _run(self, kind: str, requests_of: Callable[[list[str]], Iterator[bytes]], seconds: float) -> Load:
        rate, servers = self._rates[kind], len(self._places)
        count = max(servers, int(rate * seconds / _NODES))
        used, self._unused[kind] = self._unused[kind][:count], self._unused[kind][count:]
        shares = [used[number::servers] for number in range(servers)]
        requests = [islice(requests_of(ids), enough(rate, seconds)) for ids in shares]
        done = self._bench.run_spread(self._places, requests, seconds)
        for (host, port), ids in zip(self._places, shares, strict=True):
            check_in_etcd(host, port, ids, _LEAST_SHARE * done.rate * seconds / servers)
        return done


def trio_rounds(directory: Path, seconds: float, rounds: int) -> Iterator[TrioRound]:
    """Measure all kinds in turn, on daemons and members that are started once."""
    ids = int(_PER_SECOND * (2 * WARM_UP_SECONDS + 2 * rounds * seconds) / _NODES)
    states = fresh(directory)
    owned = {name: make_state(states[name], ids // len(NAMES), nodes=0).ids for name in NAMES}
    with Peers(directory, states) as peers, EtcdSet(directory / "etcd") as etcd:
        places = peers.start_all(relayed=False)
        wait_until_held(peers, sum(map(len, owned.values())))
        ours, theirs = PeersLoad(peers, places, owned, directory), MembersLoad(etcd, directory, ids)
        for _ in range(rounds):
            yield TrioRound(
                anywhere=ours.anywhere(seconds),
                transactions=theirs.transactions(seconds),
                at_owners=ours.at_owners(seconds),
                puts=theirs.puts(seconds),
            )


def trio_figures(
    directory: Path, rounds: int, seconds: float, progress: Callable[[str], None]
) -> tuple[list[Row], list[str]]:
    """Return rows and notes; each round is `_SPLIT` rounds of a part of its seconds."""
    rounds, seconds = rounds * _SPLIT, float(max(1, round(seconds / _SPLIT)))
    if not is_installed("wrk", "etcd"):
        raise BenchmarkFailed("wrk and etcd must be installed")
    found: list[TrioRound] = []
    for number, each in enumerate(trio_rounds(directory, seconds, rounds)):
        progress(f"trio: round {number + 1} of {rounds}\n  {each}")
        found.append(each)
    anywhere, at_owners = [each.anywhere for each in found], [each.at_owners for each in found]
    txns, raw = [each.transactions for each in found], [each.puts for each in found]
    rows = [
        *load_rows("acknowledged registrations at any of three daemons", anywhere),
        *load_rows("acknowledged registrations at their owners", at_owners),
        *load_rows("etcd, three members: the same job, in a transaction", txns),
        *load_rows("etcd, three members: durable puts", raw),
        _ratio("registrations/s at any daemon against the same job/s of etcd", anywhere, txns, _SAME_JOB),
        _ratio("registrations/s at their owners against the same job/s of etcd", at_owners, txns),
        _ratio("registrations/s at any daemon against puts/s of etcd", anywhere, raw),
        _ratio("registrations/s at their owners against puts/s of etcd", at_owners, raw),
        Row(
            "CPU of a registration at any daemon against the same job of etcd",
            "ratio",
            ratios(anywhere, txns, "cpu_us"),
        ),
    ]
    notes = [
        f"Trio: three daemons and three members of etcd, all started once, in turn under load for {seconds:.0f} s by"
        f" wrk on the same machine, with {CONNECTIONS} keep-alive connections to each of the three. Each registration"
        " is of an address that is new to its ID, about four to an ID, and is answered when it is durable at its"
        " owner and a second daemon. At any daemon means that each daemon gets registrations of all owners equally,"
        " and forwards two thirds. The same job is a transaction that puts a new node's key and reads all keys of"
        " its ID, through etcd's JSON gateway, and equally at all members. CPU is that of all three daemons, or"
        " members. Ratios are taken within a round."
    ]
    return rows, notes


def _ratio(
    figure: str, ours: list[Load], theirs: list[Load], limits: tuple[float | None, float | None] = (None, None)
) -> Row:
    return Row(figure, "ratio", ratios(ours, theirs, "rate"), *limits, more_is_better=True)


def _mixed(lists: Iterable[list[str]]) -> list[str]:
    """Return lists of one length as one, an element of each in turn."""
    return list(chain.from_iterable(zip(*lists, strict=True)))
