"""Exports are complete: the daemon that imports it decides as the exporting one would."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.cli.import_sources import open_source
from rqdisco.client import ExportedRecord
from rqdisco.core.codec import decode_put
from rqdisco.core.errors import InvalidValue, NoSuchID, Ownerless, RequestRefused, StoreUnavailable, Undecided
from rqdisco.core.export_encoder import ExportEncoder
from rqdisco.core.exports import TransferredRecord, to_record
from rqdisco.core.records import Grant, Node, Record, UnreportedClaim, is_unused
from tests.support.daemon import Daemon, create_id, result
from tests.support.etcd.daemon import Cluster, opened
from tests.support.gossip import trio, wait

GOLDEN = Path(__file__).parent / "golden" / "exports"
HOSTS = ("192.0.2.1", "192.0.2.2")
ADDRS = ("10.0.0.1:4001", "10.0.0.2:4001", "http://10.0.0.1:4001")
LEADERS = tuple(
    decode_put(json.dumps({"id": f"n{i}", "api_addr": f"http://10.0.0.{i}:4001", "addr": f"10.0.0.{i}:4002"}).encode())
    for i in (1, 2)
)
NAME = "orders"

# What a request does, to which node, from which client host, and the seconds until the next.
Request = tuple[str, int, str, int]
REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(["register", "claim", "report", "remove", "clear", "lost registration", "lost claim"]),
        st.integers(0, 2),
        st.sampled_from(HOSTS),
        st.sampled_from([0, 1, 31]),
    ),
    max_size=8,
)


def go(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a call."""
    return result(Deferred.fromCoroutine(coroutine))


def send(daemon: Daemon, name: str, request: Request) -> object:
    """Return the answer to a request, as its client sees it."""
    kind, number, host, _ = request
    directory, node, put = daemon.directory, Node(addr=ADDRS[number]), LEADERS[number % 2]
    calls: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
        "register": lambda: directory.register(name, node, host),
        "claim": lambda: directory.claim(name, put, host),
        "report": lambda: directory.report(name, put, host),
        "remove": lambda: directory.remove(name, node.addr),
        "clear": lambda: directory.clear_leader(name),
        "lost registration": lambda: directory.register(name, node, host),
        "lost claim": lambda: directory.claim(name, put, host),
    }
    if kind.startswith("lost"):
        # The client is gone before the disk has its change, so what it would be told is revoked.
        daemon.threads.hold = True
        asking = Deferred.fromCoroutine(calls[kind]())
        asking.addErrback(lambda failure: None)
        asking.cancel()
        daemon.threads.hold = False
        daemon.threads.release_all()
        return None
    try:
        answer = go(calls[kind]())
    except (RequestRefused, StoreUnavailable) as refusal:
        return type(refusal).__name__, str(refusal)
    if hasattr(answer, "bootstrap"):
        return answer.bootstrap, answer.listed
    return (answer.won, answer.again) if hasattr(answer, "won") else getattr(answer, "removed", answer)


def seen(daemon: Daemon, name: str) -> object:
    """Return what nodes and people see of the ID."""
    try:
        view = go(daemon.directory.look_up(name))
    except RequestRefused as refusal:
        return str(refusal)
    leader = view.leader and (view.leader.addr, view.leader.value)
    return view.nodes, leader, view.granted, view.confirmed, view.ownerless, view.claimed, view.claimed_since


def quiet(daemon: Daemon) -> Daemon:
    """Return a daemon that raises no alarm when several leaders report."""
    daemon.store.on_settled.remove(daemon.leaders.settled)
    return daemon


def export_of(daemon: Daemon, name: str) -> bytes:
    record = go(daemon.directory.inspect(name))
    return ExportEncoder(1).record(record, is_ownerless=not daemon.directory.has_owner(record)).strip()


def imported(line: bytes, clock: Clock) -> Daemon:
    """Return another daemon that has imported an exported record as its own."""
    daemon = Daemon(seed=1, clock=clock)
    assert go(daemon.directory.adopt(msgspec.json.decode(line, type=TransferredRecord), as_own=True))
    return daemon


@settings(max_examples=150, deadline=None)
@given(is_named=st.booleans(), before=REQUESTS, restarts=st.booleans(), after=REQUESTS)
def test_an_import_as_own_answers_as_its_source_would_once_the_window_is_closed(
    is_named: bool, before: list[Request], restarts: bool, after: list[Request]
) -> None:
    clock = Clock()
    source = quiet(Daemon(clock=clock))
    name = NAME if is_named else create_id(source)
    for request in before:
        send(source, name, request)
        clock.advance(request[3])
    try:
        line = export_of(source, name)
    except NoSuchID:
        return
    target = quiet(imported(line, clock))
    assert export_of(target, name).replace(target.owner.encode(), source.owner.encode()) == line
    records = [go(each.directory.inspect(name)) for each in (source, target)]
    assert is_unused(records[0]) == is_unused(records[1]), "and expires, or does not"
    if restarts:
        source, target = (quiet(each.restart(boot_id="boot-b")) for each in (source, target))
    clock.advance(31)
    for request in after:
        assert seen(source, name) == seen(target, name)
        assert send(source, name, request) == send(target, name, request), request
        clock.advance(request[3])
    assert seen(source, name) == seen(target, name)


@pytest.mark.parametrize("version", [1, 2])
def test_exports_of_every_version_are_read(version: int) -> None:
    source = open_source(GOLDEN / f"v{version}.json")
    records = {record.id: record for record in source.records()}
    assert sorted(records) == ["claimed", "confirmed", "emptied", "empty", "seeded"]
    decided = [name for name, record in records.items() if record.decisions is not None]
    assert decided == ([] if version == 1 else list(records))
    stored = {name: stored_form(record) for name, record in records.items()}
    if version == 1:
        # It does not tell whether a list was emptied, so each next grant asks the peers first (R5).
        assert all(record.was_emptied and record.grant is None for record in stored.values())
        return
    assert [name for name, record in stored.items() if record.was_emptied] == ["emptied"]
    assert [name for name, record in stored.items() if record.confirmed] == ["confirmed"]
    seeded, claimed = stored["seeded"], stored["claimed"]
    assert seeded.grant == Grant(addr="10.0.0.1:4001", boot=-1, at=-1, host="192.0.2.1")
    assert claimed.unreported == UnreportedClaim(times=2, since=1_795_000_001_000)


def stored_form(record: ExportedRecord) -> Record:
    """Return what a daemon stores for an imported record."""
    return to_record(
        msgspec.json.decode(msgspec.json.encode(record), type=TransferredRecord), "1" * 16, version=9, max_nodes=5
    )


@pytest.mark.parametrize(
    ("decisions", "why"),
    [
        ({"grant": {"addr": "10.0.0.9:4001"}}, "its node is not listed"),
        ({"grant": {"addr": "10.0.0.1:4001", "host": "@machine"}}, "not an IP address"),
    ],
)
def test_decisions_that_no_daemon_could_have_made_are_refused(decisions: dict[str, Any], why: str) -> None:
    record = {"id": "x", "created_at": 1, "nodes": [{"addr": "10.0.0.1:4001"}], "decisions": decisions}
    transferred = msgspec.convert(record, TransferredRecord)
    with pytest.raises(InvalidValue, match=why):
        to_record(transferred, "1" * 16, version=1, max_nodes=5)


def test_ids_that_lost_their_owner_stay_ownerless_where_they_are_imported_as_own() -> None:
    first, second, third = (Daemon(seed=seed) for seed in range(3))
    name = create_id(first)
    restored = msgspec.json.decode(export_of(first, name), type=TransferredRecord)
    go(second.directory.adopt(restored, as_own=False))
    ownerless = msgspec.json.decode(export_of(second, name), type=TransferredRecord)
    for is_new in (True, False):
        assert go(third.directory.adopt(ownerless, as_own=True)) == is_new
        with pytest.raises(Ownerless):
            go(third.directory.register(name, Node(addr=ADDRS[0]), None))
    # The daemon that holds them can become their owner: an operator says that the first one is gone.
    assert go(second.directory.adopt(ownerless, as_own=True))
    assert go(second.directory.register(name, Node(addr=ADDRS[0]), None)).bootstrap == "granted"


def test_an_imported_id_grants_among_peers_only_after_the_barrier_if_anybody_had_a_grant_before() -> None:
    source = Daemon()
    names = {state: create_id(source) for state in ("unused", "seeded", "emptied")}
    for state in ("seeded", "emptied"):
        go(source.directory.register(names[state], Node(addr=ADDRS[0]), None))
    go(source.directory.remove(names["emptied"], ADDRS[0]))
    network, (first, *_) = trio(Clock())
    for name in names.values():
        brought = msgspec.json.decode(export_of(source, name), type=TransferredRecord)
        wait(network.clock, first.directory.adopt(brought, as_own=True))
    # One peer does not answer whether it has answered anybody.
    network.swallowed.add(("b", "barrier"))
    network.swallowed.add(("a", "barrier"))
    granted = wait(network.clock, first.directory.register(names["unused"], Node(addr=ADDRS[0]), None))
    assert granted.bootstrap == "granted"
    for state, addr in (("seeded", ADDRS[0]), ("emptied", ADDRS[1])):
        with pytest.raises(Undecided):
            wait(network.clock, first.directory.register(names[state], Node(addr=addr), None))
    network.swallowed.clear()
    for state, addr in (("seeded", ADDRS[0]), ("emptied", ADDRS[1])):
        outcome = wait(network.clock, first.directory.register(names[state], Node(addr=addr), None))
        assert (outcome.bootstrap, [node.addr for node in outcome.listed]) == ("granted", [addr])


@settings(max_examples=60, deadline=None)
@given(before=REQUESTS, after=REQUESTS)
def test_a_store_in_etcd_answers_as_the_daemon_whose_records_it_imported(
    before: list[Request], after: list[Request]
) -> None:
    clock = Clock()
    source = quiet(Daemon(clock=clock))
    name = create_id(source)
    for request in before:
        send(source, name, request)
        clock.advance(request[3])
    line = export_of(source, name)
    target: Any = opened(Cluster(clock))
    assert go(target.directory.adopt(msgspec.json.decode(line, type=TransferredRecord), as_own=True))
    assert export_of(target, name).replace(target.directory.store_id.encode(), source.owner.encode()) == line
    clock.advance(31)
    for request in after:
        if request[0].startswith("lost"):
            continue
        assert seen(source, name) == seen(target, name)
        assert send(source, name, request) == send(target, name, request), request
        # Repeats are granted by other clocks here and there.
        clock.advance(31)
    assert seen(source, name) == seen(target, name)
