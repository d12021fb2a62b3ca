"""A claim without its leader's report is visible to its claimant alone (R5c), at one daemon."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.backends.limits import Limits
from rqdisco.core.codec import decode_put
from rqdisco.core.errors import Undecided
from rqdisco.core.host_binding import THIS_MACHINE
from rqdisco.core.records import ClaimOutcome, Node, Put
from rqdisco.core.views import View
from tests.support.daemon import Daemon, result
from tests.support.gossip import GossipDaemon, go

KEY = "orders"
HOST_A, HOST_B = "10.0.0.1", "10.0.0.2"


def put(name: str, **other: str) -> Put:
    """Return what the node of that name puts under the key."""
    members = {"id": name, "api_addr": f"http://{name}:4001", "addr": f"{name}:4002"} | other
    pairs = ",".join(f'"{key}":"{value}"' for key, value in members.items())
    return decode_put(f"{{{pairs}}}".encode())


A, B = put("a"), put("b")


def claim(at: Daemon | GossipDaemon, key: str, of: Put, host: str | None = HOST_A) -> ClaimOutcome:
    claimed: ClaimOutcome = go(at.directory.claim(key, of, host))
    return claimed


def report(at: Daemon | GossipDaemon, key: str, of: Put, host: str | None = HOST_A) -> bool:
    return bool(go(at.directory.report(key, of, host)))


def look_up(at: Daemon | GossipDaemon, key: str) -> View:
    view: View = go(at.directory.look_up(key))
    return view


def assert_hidden(view: View, times: int = 1) -> None:
    assert (view.nodes, view.leader, view.granted, view.claimed) == ((), None, None, times)
    assert not view.confirmed


def assert_led(view: View, *addrs: str) -> None:
    assert view.leader is not None
    assert [node.addr for node in view.nodes] == list(addrs)
    assert (view.leader.addr, view.claimed, view.confirmed) == (addrs[-1], 0, True)


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


# Answers to claimants and others.


def test_a_claimant_is_shown_to_nobody_and_others_lose(daemon: Daemon) -> None:
    first = claim(daemon, KEY, A)
    assert (first.won, first.again) == (True, False)
    assert_hidden(look_up(daemon, KEY))
    assert not claim(daemon, KEY, B).won
    assert_hidden(result(Deferred.fromCoroutine(daemon.directory.look_up_name(KEY))))
    assert_hidden(result(Deferred.fromCoroutine(daemon.directory.look_up_at_owner(KEY))))


def test_a_document_shows_since_when_a_claim_waits_and_how_often_it_was_answered(daemon: Daemon) -> None:
    claim(daemon, KEY, A)
    since = look_up(daemon, KEY).claimed_since
    assert since == daemon.wall_us() // 1000
    daemon.clock.advance(3)
    claim(daemon, KEY, A)
    view = look_up(daemon, KEY)
    assert (view.claimed, view.claimed_since) == (2, since)


def test_the_claimant_wins_again_at_any_time_also_after_a_crash(daemon: Daemon) -> None:
    claim(daemon, KEY, A)
    for seconds in (0, 1, 29, 31, 86_400):
        daemon.clock.advance(seconds)
        assert claim(daemon, KEY, A).again
    daemon = daemon.restart()
    assert claim(daemon, KEY, A).again
    assert_hidden(look_up(daemon, KEY), times=7)


def test_the_claimant_wins_again_without_a_retry_window() -> None:
    daemon = Daemon(limits=Limits(retry_window_ms=0))
    claim(daemon, KEY, A)
    assert claim(daemon, KEY, A).again
    assert not claim(daemon, KEY, A, HOST_B).won


@pytest.mark.parametrize(
    "other",
    [put("a", addr="elsewhere:4002"), put("b", addr="a:4002"), put("a", id="")],
    ids=["other address", "other ID", "no ID"],
)
def test_a_different_id_or_address_is_another_node(daemon: Daemon, other: Put) -> None:
    claim(daemon, KEY, A)
    daemon.clock.advance(3600)
    assert not claim(daemon, KEY, other).won


def test_nodes_known_only_by_their_address_are_distinguished_by_it(daemon: Daemon) -> None:
    first, other = (Put(node=Node(addr=addr), value=f'{{"addr":"{addr}"}}') for addr in ("a:1", "b:1"))
    claim(daemon, KEY, first)
    daemon.clock.advance(3600)
    assert not claim(daemon, KEY, other).won
    assert claim(daemon, KEY, first).again


@pytest.mark.parametrize("other", [HOST_B, None, THIS_MACHINE], ids=["another machine", "behind a proxy", "our own"])
def test_a_claim_from_another_host_loses_until_30_seconds_after_the_last_answer(
    daemon: Daemon, other: str | None
) -> None:
    claim(daemon, KEY, A)
    daemon.clock.advance(20)
    assert claim(daemon, KEY, A).again
    daemon.clock.advance(29.9)
    assert not claim(daemon, KEY, A, other).won
    daemon.clock.advance(0.2)
    assert claim(daemon, KEY, A, other).again
    assert not claim(daemon, KEY, A, HOST_A).won, "another node has to wait now"
    daemon.clock.advance(30)
    assert claim(daemon, KEY, A, HOST_A).again


def test_a_claimant_behind_a_proxy_waits_too(daemon: Daemon) -> None:
    claim(daemon, KEY, A, None)
    assert not claim(daemon, KEY, A, None).won
    daemon.clock.advance(30)
    assert claim(daemon, KEY, A, None).again


def test_others_wait_for_30_seconds_of_a_new_boot_of_the_host(daemon: Daemon) -> None:
    claim(daemon, KEY, A)
    daemon = daemon.restart(boot_id="boot-b", clock=Clock())
    daemon.clock.advance(29)
    assert not claim(daemon, KEY, A, HOST_B).won
    assert claim(daemon, KEY, A, HOST_A).again
    daemon.clock.advance(30)
    assert claim(daemon, KEY, A, HOST_B).again


def test_others_wait_for_30_seconds_when_a_state_directory_moves_to_another_host(daemon: Daemon) -> None:
    daemon.clock.advance(86_400)
    claim(daemon, KEY, A)
    daemon = daemon.restart(boot_id="of a machine that has been up for a day")
    daemon.clock.advance(29)
    assert not claim(daemon, KEY, A, HOST_B).won
    daemon.clock.advance(1)
    assert claim(daemon, KEY, A, HOST_B).again


def test_a_node_that_claims_a_third_time_is_named_in_the_log(daemon: Daemon, log: list[dict[str, Any]]) -> None:
    for _ in range(2):
        claim(daemon, KEY, A)
    assert not [event for event in log if "never reported itself" in event["log_format"]]
    claim(daemon, KEY, A)
    (warning,) = [event for event in log if "never reported itself" in event["log_format"]]
    assert (warning["addr"], warning["times"], warning["discovery_id"]) == ("a:4001", 3, KEY)


def test_an_answer_that_the_disk_refuses_is_not_counted(daemon: Daemon) -> None:
    claim(daemon, KEY, A)
    daemon.disk.room = 0
    with pytest.raises(Exception, match="store unavailable"):
        claim(daemon, KEY, A)
    daemon.disk.room = None
    assert_hidden(look_up(daemon, KEY))
    assert claim(daemon, KEY, A).again


# Ends of a claim.


def test_a_report_by_the_claimant_shows_it_from_whatever_host(daemon: Daemon) -> None:
    claimed = claim(daemon, KEY, A)
    assert report(daemon, KEY, A, HOST_B)
    view = look_up(daemon, KEY)
    assert_led(view, "a:4001")
    assert view.leader is not None
    assert view.leader.created == claimed.record.version < view.leader.modified
    assert not claim(daemon, KEY, A).won, "it leads"


def test_a_report_by_another_node_drops_the_claimant(daemon: Daemon) -> None:
    claim(daemon, KEY, A)
    assert report(daemon, KEY, B)
    assert_led(look_up(daemon, KEY), "b:4001")
    assert not claim(daemon, KEY, A).won


def test_only_the_claimant_swaps_a_claim_even_if_others_guess_its_index(daemon: Daemon) -> None:
    claimed = claim(daemon, KEY, A)
    assert claimed.record.leader is not None
    index = claimed.record.leader.modified
    assert not go(daemon.directory.report(KEY, A, HOST_A, index + 1))
    assert not go(daemon.directory.report(KEY, B, HOST_B, index))
    assert_hidden(look_up(daemon, KEY))
    assert go(daemon.directory.report(KEY, A, HOST_A, index))
    assert_led(look_up(daemon, KEY), "a:4001")


@pytest.mark.parametrize("addr", [None, "a:4001", "http://a:4001"], ids=["clear", "remove", "remove with http"])
def test_clearing_the_key_or_removing_the_node_ends_a_claim_and_the_next_one_wins(
    daemon: Daemon, addr: str | None
) -> None:
    claim(daemon, KEY, A)
    if addr is None:
        assert go(daemon.directory.clear_leader(KEY)).removed == "claim"
    else:
        removal = go(daemon.directory.remove(KEY, addr))
        assert (removal.removed, removal.record.nodes) == (True, ())
    assert look_up(daemon, KEY).claimed == 0
    assert claim(daemon, KEY, B).won
    assert not claim(daemon, KEY, A).won


def test_removing_another_address_leaves_a_claim_unchanged(daemon: Daemon) -> None:
    claim(daemon, KEY, A)
    assert not go(daemon.directory.remove(KEY, "b:4001")).removed
    assert claim(daemon, KEY, A).again


def test_an_old_node_is_told_to_wait_and_bootstraps_nothing(daemon: Daemon) -> None:
    claim(daemon, KEY, A)
    for node in (A.node, Node(addr="b:4001")):
        with pytest.raises(Undecided, match="a claim awaits its owner's first report"):
            go(daemon.directory.register(KEY, node, HOST_A))
    assert_hidden(look_up(daemon, KEY))


# Visible claims.


def test_no_claim_wins_again_where_claims_are_visible() -> None:
    daemon = Daemon(limits=Limits(visible_claims=True))
    assert claim(daemon, KEY, A).won
    daemon.clock.advance(3600)
    assert not claim(daemon, KEY, A).won
    view = look_up(daemon, KEY)
    assert view.leader is not None
    assert (view.leader.addr, view.claimed, view.confirmed) == ("a:4001", 0, False)


def test_a_hidden_claim_stays_hidden_and_wins_no_more_after_claims_were_made_visible(
    daemon: Daemon,
) -> None:
    claim(daemon, KEY, A)
    daemon = daemon.restart(limits=Limits(visible_claims=True))
    assert not claim(daemon, KEY, A).won
    assert_hidden(look_up(daemon, KEY))
    assert report(daemon, KEY, A)
    assert_led(look_up(daemon, KEY), "a:4001")


def test_a_visible_claim_stays_visible() -> None:
    daemon = Daemon(limits=Limits(visible_claims=True))
    claim(daemon, KEY, A)
    daemon = daemon.restart(limits=Limits())
    assert not claim(daemon, KEY, A).won
    assert look_up(daemon, KEY).leader is not None
