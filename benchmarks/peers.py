"""Three peer daemons: the cost of an acknowledgement, the delay until all have a change, and the
traffic between them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

from benchmarks.load import Bench, Load, enough, etcd_ids, registrations
from benchmarks.processes import HOST, BenchmarkFailed, Client, EtcdSet, Rqdisco, free_ports
from benchmarks.relay import Relay
from benchmarks.state import make_state
from rqdisco.storage.snapshot import NAME

NAMES = "abc"
_IDS = 24_000
_WARM_UP_IDS = 2_000
_WARM_UP_SECONDS = 1.0
_NODES = 4
_HELD = 100_000
_CHANGES = 500
_PATIENCE = 600.0
_SETTLE_SECONDS = 2.0
_PROBES = 400
_PROBE_SECONDS = 0.01


class Visible(NamedTuple):
    """The time from the answer to a registration until the last peer lists it, in milliseconds."""

    p50_ms: float
    p99_ms: float


class Peers:
    """Three daemons, each in its own directory; the traffic between them passes through relays that
    count it.

    `more` gives additional options.
    """

    def __init__(
        self, directory: Path, states: dict[str, Path], more: Callable[[str], list[str]] = lambda name: []
    ) -> None:
        self._directory = directory
        self._more = more
        self._states = states
        self._ports = dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
        self.relays = {name: Relay(port) for name, port in self._ports.items()}
        self.daemons: dict[str, Rqdisco] = {}
        self._stack = ExitStack()
        keys = directory / "keys"
        keys.parent.mkdir(parents=True, exist_ok=True)
        keys.write_text(f"{os.urandom(32).hex()}\n")
        self._keys = keys

    def __enter__(self) -> Peers:
        for relay in self.relays.values():
            self._stack.enter_context(relay)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def start(self, name: str, *, relayed: bool = True) -> Rqdisco:
        """Start one of them."""
        port = self._ports[name]
        urls = {each: f"http://{HOST}:{self.relays[each].port if relayed else self._ports[each]}" for each in NAMES}
        other = "a" if name != "a" else "b"
        options = [
            f"--name={name}",
            f"--peer-listen=tcp:{port}:interface={HOST}:backlog=1000",
            f"--advertise={urls[name]}",
            f"--peer={urls[other]}",
            f"--peer-keys={self._keys}",
            *self._more(name),
        ]
        daemon = Rqdisco(self._states[name], self._directory / name, *options)
        self._stack.enter_context(daemon)
        self.daemons[name] = daemon
        return daemon

    def start_all(self, *, relayed: bool = True) -> dict[str, tuple[str, int]]:
        """Start all of them; return where they listen, once they agree."""
        started = {name: self.start(name, relayed=relayed) for name in NAMES}
        addresses = {name: daemon.address() for name, daemon in started.items()}
        for daemon in started.values():
            daemon.wait_for_event("peers agree")
        return addresses

    def cpu_seconds(self) -> float:
        """Return the CPU time of all of them so far."""
        return sum(daemon.cpu_seconds() for daemon in self.daemons.values())

    def bytes(self) -> int:
        """The bytes that have passed between them so far."""
        return sum(relay.bytes for relay in self.relays.values())


def fresh(directory: Path) -> dict[str, Path]:
    """Return a directory for three daemons without state."""
    return {name: directory / name / "state" for name in NAMES}


def rqdisco_round(directory: Path, seconds: float) -> Load:
    """Measure registrations at the owner of their IDs, each acknowledged by a peer."""
    states = fresh(directory)
    state = make_state(states["a"], _IDS, nodes=0)
    with Peers(directory, states) as peers:
        host, port = peers.start_all(relayed=False)["a"]
        wait_until_held(peers, len(state.ids))
        bench = Bench(peers.daemons["a"], host, port, directory)
        spare, ids = state.ids[:_WARM_UP_IDS], state.ids[_WARM_UP_IDS:]
        warm = bench.run(registrations(spare), _WARM_UP_SECONDS, once=True)
        used = ids[: max(1, int(warm.rate * seconds / _NODES))]
        return bench.run(islice(registrations(used), enough(warm.rate, seconds)), seconds, once=True)


def etcd_round(directory: Path, seconds: float, requests_of: Callable[[list[str]], Iterator[bytes]]) -> Load:
    """Measure requests for new nodes to an etcd of three members, at its leader."""
    ids = etcd_ids("ring", _IDS)
    with EtcdSet(directory) as members:
        leader = members.leader()
        bench = Bench(leader, *leader.address(), directory)
        spare, rest = ids[:_WARM_UP_IDS], ids[_WARM_UP_IDS:]
        warm = bench.run(requests_of(spare), _WARM_UP_SECONDS, once=True)
        used = rest[: max(1, int(warm.rate * seconds / _NODES))]
        return bench.run(islice(requests_of(used), enough(warm.rate, seconds)), seconds, once=True)


def visible_round(directory: Path) -> Visible:
    """Measure registrations one by one at one daemon, while the lists of both others are polled."""
    states = fresh(directory)
    state = make_state(states["a"], _PROBES, nodes=1)
    with Peers(directory, states) as peers:
        addresses = peers.start_all(relayed=False)
        wait_until_held(peers, _PROBES)
        owner = Client(*addresses["a"])
        others = [Client(*addresses[name]) for name in NAMES[1:]]
        taken = sorted(_seen(owner, others, discovery_id) for discovery_id in state.ids)
    return Visible(1e3 * taken[len(taken) // 2], 1e3 * taken[int(0.99 * len(taken))])


def _seen(owner: Client, others: list[Client], discovery_id: str) -> float:
    """Return the seconds from the answer to a registration until both others list it."""
    addr = "10.255.255.255:4001"
    owner.ask("POST", f"/{discovery_id}", {"addr": addr})
    begun = time.monotonic()
    for other in others:
        while addr not in other.ask("GET", f"/{discovery_id}")["nodes"]:
            if time.monotonic() - begun > _PATIENCE:
                raise BenchmarkFailed(f"a peer does not list what was registered {_PATIENCE} s ago")
    taken = time.monotonic() - begun
    time.sleep(_PROBE_SECONDS)
    return taken


class Traffic(NamedTuple):
    """Bytes per second between a pair of idle daemons; and per change to both peers, one change at
    a time.
    """

    idle: float
    change: float


def traffic_round(directory: Path, seconds: float) -> Traffic:
    """Measure three idle daemons that hold 100,000 IDs, then one registration after the other."""
    states = fresh(directory)
    state = make_state(states["a"], _HELD)
    with Peers(directory, states) as peers:
        addresses = peers.start_all()
        wait_until_held(peers, _HELD)
        time.sleep(_SETTLE_SECONDS)
        begun, before = time.monotonic(), peers.bytes()
        time.sleep(seconds)
        idle = (peers.bytes() - before) / (time.monotonic() - begun)
        owner = Client(*addresses["a"])
        begun, before = time.monotonic(), peers.bytes()
        for number, discovery_id in enumerate(islice(cycle(state.ids), _CHANGES)):
            owner.ask("POST", f"/{discovery_id}", {"addr": f"10.255.{number >> 8 & 255}.{number & 255}:4001"})
        spent = peers.bytes() - before - idle * (time.monotonic() - begun)
    return Traffic(idle=idle / 3, change=spent / _CHANGES)


def catch_up_round(directory: Path) -> float:
    """Return the seconds from the start of a third, empty daemon until it holds 100,000 IDs."""
    states = fresh(directory)
    make_state(states["a"], _HELD)
    with Peers(directory, states) as peers:
        for name in "ab":
            peers.start(name, relayed=False)
        wait_until_held(peers, _HELD)
        late = peers.start("c", relayed=False)
        wait_until_held(peers, _HELD)
        return time.monotonic() - late.started


def absence_round(directory: Path, count: int) -> float:
    """Return the seconds from the start of a daemon that was away until it holds this many IDs
    created in the meantime.
    """
    states = fresh(directory)
    make_state(states["a"], _PROBES)
    with Peers(directory / "before", states) as peers:
        peers.start_all(relayed=False)
        wait_until_held(peers, _PROBES)
    (states["a"] / NAME).unlink()
    make_state(states["a"], count)
    with Peers(directory / "after", states) as peers:
        for name in "ab":
            peers.start(name, relayed=False)
        wait_until_held(peers, count)
        late = peers.start("c", relayed=False)
        # It has the earlier IDs; and all of the others, some of which it may have while others are
        # missing.
        wait_until_held(peers, count + _PROBES, "c")
        return time.monotonic() - late.started


def wait_until_held(peers: Peers, count: int, names: Iterable[str] = NAMES) -> None:
    """Return when those of these names that run hold this many IDs."""
    begun = time.monotonic()
    for client in [Client(*peers.daemons[name].address()) for name in names if name in peers.daemons]:
        while client.ask("GET", "/")["ids"] < count:
            if time.monotonic() - begun > _PATIENCE:
                raise BenchmarkFailed(f"a peer does not hold {count} IDs after {_PATIENCE} s")
            time.sleep(_PROBE_SECONDS)
        client.close()
