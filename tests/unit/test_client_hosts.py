"""Loopback addresses and their client hosts, in directories: across grants, restarts, imports, and
peers.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.backends.gossip.core.messages import Call, decode_message
from rqdisco.core.errors import InvalidValue, LoopbackConflict, Undecided
from rqdisco.core.export_encoder import ExportEncoder
from rqdisco.core.exports import ImportedNode, TransferredRecord
from rqdisco.core.host_binding import THIS_MACHINE
from rqdisco.core.records import Leader, Node, Put, Record
from tests.support import gossip
from tests.support.daemon import Daemon, answer_of, create_id, give_up, register, result, shown
from tests.support.gossip import Three, go, listed, settle, wait

M1, M2, M3, M4 = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"
DEFAULT, SECOND, THIRD = "localhost:4001", "localhost:4003", "localhost:4005"
ANOTHER = "localhost:4001 is another machine's, set -http-adv-addr"
LEFT_AT_DEFAULT = Put(
    node=Node(addr=DEFAULT, raft_addr="localhost:4002", node_id="localhost:4002"),
    value='{"id":"localhost:4002","api_addr":"http://localhost:4001","addr":"localhost:4002"}',
)


def seen(directory: Any, discovery_id: str) -> Any:
    """Return what is shown of an ID."""
    return go(directory.look_up(discovery_id))


def test_three_hosts_left_at_the_default_are_not_three_clusters() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    assert answer_of(register(daemon, discovery_id, DEFAULT, M1)) == [DEFAULT]
    for host in (M2, M3):
        with pytest.raises(LoopbackConflict, match=ANOTHER):
            result(register(daemon, discovery_id, DEFAULT, host))
    with pytest.raises(LoopbackConflict, match=ANOTHER):
        result(register(daemon, discovery_id, f"{M4}:4001", M4))
    result(Deferred.fromCoroutine(daemon.directory.remove(discovery_id, DEFAULT)))
    assert answer_of(register(daemon, discovery_id, f"{M4}:4001", M4)) == [f"{M4}:4001"]


def test_the_next_host_gets_the_id_if_the_grant_was_not_answered_and_later_ones_are_refused() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    daemon.threads.hold = True
    first = register(daemon, discovery_id, DEFAULT, M1)
    second = register(daemon, discovery_id, DEFAULT, M2)
    give_up(first)
    daemon.threads.release_all()
    third = register(daemon, discovery_id, DEFAULT, M3)
    daemon.threads.hold = False
    daemon.threads.release_all()
    assert answer_of(second) == [DEFAULT]
    with pytest.raises(LoopbackConflict):
        result(third)
    assert seen(daemon.directory, discovery_id).host == M2


def test_a_restart_remembers_the_host_of_an_id_and_recognizes_the_daemons_own() -> None:
    daemon = Daemon()
    here, there = create_id(daemon), create_id(daemon)
    assert answer_of(register(daemon, here, DEFAULT, THIS_MACHINE)) == [DEFAULT]
    assert answer_of(register(daemon, there, DEFAULT, M1)) == [DEFAULT]
    daemon = daemon.restart()
    for discovery_id, host, other in ((here, THIS_MACHINE, M1), (there, M1, THIS_MACHINE)):
        with pytest.raises(LoopbackConflict):
            result(register(daemon, discovery_id, SECOND, other))
        assert answer_of(register(daemon, discovery_id, SECOND, host)) == [DEFAULT, SECOND]


def test_a_record_of_an_earlier_release_is_bound_by_the_next_loopback_registration() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    record = daemon.store.newest(discovery_id)
    assert record is not None
    old = msgspec.structs.replace(record, version=record.version + 1, nodes=(Node(addr=DEFAULT), Node(addr=SECOND)))
    result(daemon.journal.append(daemon.store.put(old)))
    daemon = daemon.restart()
    with pytest.raises(LoopbackConflict):
        result(register(daemon, discovery_id, f"{M2}:4001", M2))
    assert answer_of(register(daemon, discovery_id, DEFAULT, M1)) == [DEFAULT, SECOND]
    with pytest.raises(LoopbackConflict):
        result(register(daemon, discovery_id, SECOND, M2))
    assert shown(daemon, discovery_id) == [DEFAULT, SECOND]


def test_the_leader_key_of_an_earlier_release_is_bound_by_the_next_report() -> None:
    daemon = Daemon()
    leader = Leader(addr=DEFAULT, value=LEFT_AT_DEFAULT.value, created=1, modified=1)
    nodes, made_at = (LEFT_AT_DEFAULT.node,), daemon.wall_us()
    old = Record(id="kv", owner=daemon.owner, version=1, created_at=made_at, nodes=nodes, leader=leader, confirmed=True)
    result(daemon.journal.append(daemon.store.put(old)))
    assert go(daemon.directory.report("kv", LEFT_AT_DEFAULT, M1))
    assert not go(daemon.directory.report("kv", LEFT_AT_DEFAULT, M2))
    assert seen(daemon.directory, "kv").host == M1


def brought(*addrs: str, host: str | None = None) -> TransferredRecord:
    return TransferredRecord(
        id="moved", created_at=1, nodes=tuple(ImportedNode(addr=addr) for addr in addrs), host=host
    )


def test_an_import_names_the_host_of_loopback_addresses_or_the_next_registration_binds_it() -> None:
    for host in (M1, None):
        daemon = Daemon()
        assert go(daemon.directory.adopt(brought(DEFAULT, SECOND, host=host), as_own=True))
        assert seen(daemon.directory, "moved").host == host
        assert answer_of(register(daemon, "moved", SECOND, M1)) == [DEFAULT, SECOND]
        with pytest.raises(LoopbackConflict):
            result(register(daemon, "moved", SECOND, M2))


def test_an_import_without_loopback_addresses_binds_nothing_and_a_host_is_an_address() -> None:
    daemon = Daemon()
    assert go(daemon.directory.adopt(brought(f"{M1}:4001", host=M1), as_own=True))
    assert seen(daemon.directory, "moved").host is None
    for host in ("@", "@0123456789abcdef", "n1.example", ""):
        with pytest.raises(InvalidValue, match="invalid host: not an IP address"):
            go(Daemon().directory.adopt(brought(DEFAULT, host=host), as_own=True))


@pytest.mark.parametrize(("host", "exported"), [(M1, M1), ("fd00::1", "fd00::1"), (THIS_MACHINE, None)])
def test_an_export_names_the_host_unless_it_is_the_daemons_own(host: str, exported: str | None) -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    result(register(daemon, discovery_id, DEFAULT, host))
    line = ExportEncoder(1).record(go(daemon.directory.inspect(discovery_id)))
    assert msgspec.json.decode(line, type=TransferredRecord).host == exported


# Peers.


def calls(network: gossip.DirectNetwork) -> list[Call]:
    return [decode_message(body, Call) for _, _, verb, body in network.messages if verb == "call"]


def test_a_forwarded_request_carries_the_client_host(three: Three, clock: Clock) -> None:
    network, (a, b, c) = three
    discovery_id = gossip.create_id(a)
    assert gossip.register(b, discovery_id, DEFAULT, M1) == [DEFAULT]
    assert gossip.register(c, discovery_id, SECOND, M1) == [DEFAULT, SECOND]
    with pytest.raises(LoopbackConflict, match=ANOTHER):
        gossip.register(c, discovery_id, DEFAULT, M2)
    with pytest.raises(LoopbackConflict, match=ANOTHER):
        gossip.register(a, discovery_id, f"{M4}:4001", M4)
    assert [call.host for call in calls(network) if call.op == "register"] == [M1, M1, M2]
    settle(clock, 1)
    assert {seen(daemon.directory, discovery_id).host for daemon in (a, b, c)} == {M1}


def test_the_local_host_of_one_daemon_is_not_that_of_another(three: Three, clock: Clock) -> None:
    _, (a, b, c) = three
    discovery_id = gossip.create_id(a)
    assert gossip.register(b, discovery_id, DEFAULT, THIS_MACHINE) == [DEFAULT]
    for daemon in (a, c):
        with pytest.raises(LoopbackConflict):
            gossip.register(daemon, discovery_id, DEFAULT, THIS_MACHINE)
    assert gossip.register(b, discovery_id, SECOND, THIS_MACHINE) == [DEFAULT, SECOND]
    settle(clock, 1)
    assert {seen(daemon.directory, discovery_id).host for daemon in (a, b, c)} == {f"@{b.owner}"}
    assert b.directory.name_host(THIS_MACHINE) == f"@{b.owner}"


def test_one_of_several_hosts_left_at_the_default_leads_at_whichever_daemon(three: Three, clock: Clock) -> None:
    _, (a, b, c) = three
    assert wait(clock, a.directory.claim("kv", LEFT_AT_DEFAULT, M1)).won
    settle(clock, 1)
    for daemon, host in ((b, M2), (c, M3), (a, M2)):
        assert not wait(clock, daemon.directory.claim("kv", LEFT_AT_DEFAULT, host)).won
        assert not wait(clock, daemon.directory.report("kv", LEFT_AT_DEFAULT, host))
    assert wait(clock, b.directory.report("kv", LEFT_AT_DEFAULT, M1))
    assert seen(c.directory, "kv").host == M1


def test_the_same_host_is_listed_on_the_owners_behalf_and_no_other(three: Three, clock: Clock) -> None:
    network, (a, _, c) = three
    discovery_id = gossip.create_id(a)
    gossip.register(a, discovery_id, DEFAULT, M1)
    network.split("a")
    settle(clock, 3)
    assert gossip.register(c, discovery_id, SECOND, M1) == [DEFAULT, SECOND]
    for addr in (SECOND, THIRD, f"{M2}:4001"):
        with pytest.raises(LoopbackConflict, match=ANOTHER):
            gossip.register(c, discovery_id, addr, M2)
    assert [hint.host for hint in c.state.hints.take_batch(a.owner)[1]] == [M1]
    c = c.restart()
    settle(clock, 3)
    network.heal()
    settle(clock, 5)
    assert listed(a, discovery_id) == [DEFAULT, SECOND]
    assert seen(a.directory, discovery_id).host == M1
    assert c.hints == 0


def test_no_first_loopback_address_is_listed_on_the_owners_behalf(three: Three, clock: Clock) -> None:
    network, (a, _, c) = three
    discovery_id = gossip.create_id(a)
    gossip.register(a, discovery_id, f"{M1}:4001", M1)
    network.split("a")
    settle(clock, 3)
    with pytest.raises(Undecided):
        gossip.register(c, discovery_id, DEFAULT, M1)
    with pytest.raises(LoopbackConflict):
        gossip.register(c, discovery_id, DEFAULT, M2)
    assert gossip.register(c, discovery_id, f"{M2}:4001", M2) == [f"{M1}:4001", f"{M2}:4001"]


def test_a_loopback_address_is_left_out_where_the_list_has_become_another_hosts(
    three: Three, clock: Clock, log: list[dict[str, Any]]
) -> None:
    network, (a, _, c) = three
    discovery_id = gossip.create_id(a)
    for addr in (DEFAULT, f"{M1}:4003"):
        gossip.register(a, discovery_id, addr, M1)
    network.split("a")
    settle(clock, 3)
    assert gossip.register(c, discovery_id, SECOND, M1) == [DEFAULT, f"{M1}:4003", SECOND]
    wait(clock, a.directory.remove(discovery_id, DEFAULT))
    assert wait(clock, a.directory.register(discovery_id, Node(addr=f"{M2}:4001"), M2)).bootstrap is None
    network.heal()
    settle(clock, 5)
    assert listed(a, discovery_id) == [f"{M1}:4003", f"{M2}:4001"]
    assert c.hints == 0
    (line,) = [event for event in log if "not added" in str(event.get("log_format"))]
    assert line["addr"] == SECOND
    assert "localhost:4003 is a loopback address beside others" in line["why"]


def test_a_handed_over_id_stays_with_its_host_and_one_of_a_lost_daemon_with_the_next(
    three: Three, clock: Clock
) -> None:
    _, (a, b, c) = three
    for owner, how in ((a, "drained"), (c, "lost")):
        here, there = gossip.create_id(owner), gossip.create_id(owner)
        gossip.register(owner, here, DEFAULT, THIS_MACHINE)
        gossip.register(owner, there, DEFAULT, M1)
        settle(clock, 1)
        if how == "drained":
            wait(clock, a.drain("b"))
        else:
            c.stop()
            settle(clock, 3)
            wait(clock, b.forget("c"))
        settle(clock, 1)
        assert seen(b.directory, there).host == M1
        with pytest.raises(LoopbackConflict):
            gossip.register(b, there, SECOND, M2)
        assert gossip.register(b, there, SECOND, M1) == [DEFAULT, SECOND]
        assert seen(b.directory, here).host == (f"@{a.owner}" if how == "drained" else None)
    assert gossip.register(b, here, SECOND, M3) == [DEFAULT, SECOND]
    assert seen(b.directory, here).host == M3


def test_daemons_that_reach_each_other_by_loopback_share_a_host(clock: Clock) -> None:
    network = gossip.DirectNetwork(clock)
    a = gossip.GossipDaemon(network, "127.0.0.1:1", ["localhost:2"])
    b = gossip.GossipDaemon(network, "localhost:2")
    settle(clock, 5)
    discovery_id = gossip.create_id(a)
    assert gossip.register(a, discovery_id, DEFAULT, THIS_MACHINE) == [DEFAULT]
    assert gossip.register(b, discovery_id, DEFAULT, THIS_MACHINE) == [DEFAULT], "granted again"
    assert gossip.register(b, discovery_id, SECOND, THIS_MACHINE) == [DEFAULT, SECOND]
    with pytest.raises(LoopbackConflict):
        gossip.register(b, discovery_id, DEFAULT, M1)
    for daemon in (a, b):
        daemon.stop()
    settle(clock, 1)
