"""Claims and reports through the directory: durable before they are answered, undone without an
answer.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from rqdisco.backends.limits import Limits
from rqdisco.core.errors import NoSuchID, Ownerless, StoreUnavailable, TooManyIDs, Undecided
from rqdisco.core.records import ClaimOutcome, Leader, Node, Put, Record
from tests.support.daemon import STATE, Daemon, answer_of, create_id, give_up, register, result, shown

A, B, C = "10.0.0.1:4001", "10.0.0.2:4001", "10.0.0.3:4001"


def put(addr: str) -> Put:
    return Put(node=Node(addr=addr, raft_addr=addr), value=f'{{"addr":"{addr}"}}')


def claim(daemon: Daemon, discovery_id: str, addr: str, host: str | None = "10.0.0.1") -> Deferred[ClaimOutcome]:
    return Deferred.fromCoroutine(daemon.directory.claim(discovery_id, put(addr), host))


def report(daemon: Daemon, discovery_id: str, addr: str, index: int | None = None) -> Deferred[bool]:
    return Deferred.fromCoroutine(daemon.directory.report(discovery_id, put(addr), None, index))


def clear(daemon: Daemon, discovery_id: str, index: int | None = None) -> Deferred[bool]:
    clearing = Deferred.fromCoroutine(daemon.directory.clear_leader(discovery_id, index))
    return clearing.addCallback(lambda cleared: cleared.done)


def leader(daemon: Daemon, discovery_id: str) -> Leader | None:
    record: Record = result(Deferred.fromCoroutine(daemon.directory.look_up(discovery_id)))
    return record.leader


def test_one_of_any_number_of_concurrent_claims_wins() -> None:
    daemon = Daemon()
    daemon.threads.hold = True
    claims = [claim(daemon, "rqlite", f"n{number}:1") for number in range(50)]
    daemon.threads.release_all()
    assert [result(each).won for each in claims] == [True] + [False] * 49
    daemon.threads.hold = False
    assert shown(daemon, "rqlite") == []
    assert result(report(daemon, "rqlite", "n0:1"))
    assert shown(daemon, "rqlite") == ["n0:1"]


def test_a_claim_survives_a_crash_right_after_its_answer() -> None:
    daemon = Daemon()
    claimed = result(claim(daemon, "rqlite", A))
    assert claimed.won
    after = daemon.restart()
    assert not result(claim(after, "rqlite", B)).won
    assert result(report(after, "rqlite", A))
    found = leader(after, "rqlite")
    assert found is not None
    assert (found.addr, found.created) == (A, claimed.record.version)


def test_an_unknown_id_does_not_exist_until_its_first_claim_is_answered() -> None:
    daemon = Daemon()
    daemon.threads.hold = True
    claiming = claim(daemon, "rqlite", A)
    with pytest.raises(NoSuchID):
        shown(daemon, "rqlite")
    daemon.threads.release_all()
    assert result(claiming).won


def test_an_unanswered_claim_is_undone_and_the_next_one_wins() -> None:
    daemon = Daemon()
    daemon.threads.hold = True
    gone, waiting = claim(daemon, "rqlite", A), claim(daemon, "rqlite", B)
    give_up(gone)
    daemon.threads.release()
    assert shown(daemon, "rqlite") == [], "the disk has the claim, but its node never got the answer"
    daemon.threads.release_all()
    assert result(waiting).won
    daemon.threads.hold = False
    assert result(report(daemon, "rqlite", B))
    assert shown(daemon, "rqlite") == [B]


def test_a_registration_waits_for_a_claim_and_is_not_sent_to_its_winner_before_that_leads() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    daemon.threads.hold = True
    claiming, registering = claim(daemon, discovery_id, A), register(daemon, discovery_id, B)
    daemon.threads.release_all()
    assert result(claiming).won
    with pytest.raises(Undecided, match="a claim awaits its owner's first report"):
        result(registering)
    daemon.threads.hold = False
    assert result(report(daemon, discovery_id, A))
    assert answer_of(register(daemon, discovery_id, B)) == [A, B]


def test_a_registration_joins_the_winner_at_once_where_claims_are_visible() -> None:
    daemon = Daemon(limits=Limits(visible_claims=True))
    discovery_id = create_id(daemon)
    daemon.threads.hold = True
    claiming, registering = claim(daemon, discovery_id, A), register(daemon, discovery_id, B)
    daemon.threads.release_all()
    assert result(claiming).won
    assert answer_of(registering) == [A, B]


def test_a_claim_waits_for_a_registration_and_loses_to_it() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    daemon.threads.hold = True
    registering, claiming = register(daemon, discovery_id, A), claim(daemon, discovery_id, B)
    daemon.threads.release_all()
    assert answer_of(registering) == [A]
    assert not result(claiming).won


def test_a_claim_that_the_disk_refuses_was_never_made() -> None:
    daemon = Daemon()
    daemon.disk.room = 0
    with pytest.raises(StoreUnavailable):
        result(claim(daemon, "rqlite", A))
    daemon.disk.room = None
    with pytest.raises(NoSuchID):
        shown(daemon, "rqlite")
    assert result(claim(daemon, "rqlite", B)).won


def test_a_report_creates_its_id_and_survives_a_restart() -> None:
    daemon = Daemon()
    assert result(report(daemon, "rqlite", A))
    after = daemon.restart()
    assert shown(after, "rqlite") == [A]
    assert not result(claim(after, "rqlite", B)).won


def test_a_swap_succeeds_only_at_its_index_and_each_put_raises_the_index() -> None:
    daemon = Daemon()
    assert not result(report(daemon, "rqlite", A, 7)), "there is nothing to swap"
    with pytest.raises(NoSuchID):
        shown(daemon, "rqlite")
    result(claim(daemon, "rqlite", A))
    result(report(daemon, "rqlite", A))
    first = leader(daemon, "rqlite")
    assert first is not None
    assert not result(report(daemon, "rqlite", B, first.modified + 1))
    assert result(report(daemon, "rqlite", B, first.modified))
    second = leader(daemon, "rqlite")
    assert second is not None
    assert second.created == first.created
    assert second.modified > first.modified
    assert daemon.directory.index >= second.modified


def test_the_index_never_decreases_and_is_never_0_even_after_a_crash() -> None:
    daemon = Daemon()
    assert daemon.directory.index == 1
    result(report(daemon, "rqlite", A))
    before = daemon.directory.index
    daemon.threads.hold = True
    report(daemon, "rqlite", B).addErrback(lambda _: None)
    assert daemon.directory.index == before, "nothing is shown before it is durable"
    after = daemon.restart(daemon.disk.kill())
    assert after.directory.index >= before


def test_clearing_removes_the_key_only() -> None:
    daemon = Daemon()
    result(report(daemon, "rqlite", A))
    found = leader(daemon, "rqlite")
    assert found is not None
    assert not result(clear(daemon, "rqlite", found.modified + 1))
    assert result(clear(daemon, "rqlite", found.modified))
    assert (leader(daemon, "rqlite"), shown(daemon, "rqlite")) == (None, [A])
    assert result(clear(daemon, "rqlite"))
    assert result(clear(daemon, "unknown"))


def test_a_cleared_or_replaced_key_is_reported_only_once_it_is_durable() -> None:
    daemon = Daemon()
    result(report(daemon, "rqlite", A))
    found = leader(daemon, "rqlite")
    assert found is not None
    daemon.threads.hold = True
    calls = [clear(daemon, "rqlite"), clear(daemon, "rqlite"), report(daemon, "rqlite", B, found.modified)]
    assert [call.called for call in calls] == [False, False, False]
    daemon.threads.release_all()
    assert [result(call) for call in calls] == [True, True, False]


def test_clearing_does_not_remove_a_claim_that_was_unanswered_when_it_arrived() -> None:
    daemon = Daemon()
    daemon.threads.hold = True
    claiming, clearing = claim(daemon, "rqlite", A), clear(daemon, "rqlite")
    daemon.threads.release_all()
    assert result(claiming).won
    assert result(clearing)
    daemon.threads.hold = False
    assert result(claim(daemon, "rqlite", A)).again
    assert not result(claim(daemon, "rqlite", B)).won


def test_clearing_removes_the_shown_key_although_a_newer_one_was_about_to_be_put() -> None:
    daemon = Daemon()
    result(report(daemon, "rqlite", A))
    result(Deferred.fromCoroutine(daemon.directory.remove("rqlite", A)))
    result(report(daemon, "rqlite", A))
    daemon.clock.advance(31)
    daemon.threads.hold = True
    refused: list[Deferred[Any]] = [report(daemon, "rqlite", A), register(daemon, "rqlite", A)]
    clearing = clear(daemon, "rqlite")
    daemon.disk.room = 0
    daemon.threads.release()
    for each in refused:
        with pytest.raises(StoreUnavailable):
            result(each)
    daemon.disk.room = None
    daemon.threads.release_all()
    assert result(clearing)
    assert leader(daemon, "rqlite") is None


def test_a_claim_that_could_not_be_undone_is_undone_by_the_shutdown_at_the_latest() -> None:
    daemon = Daemon()
    daemon.threads.hold = True
    gone = claim(daemon, "rqlite", A)
    give_up(gone)
    daemon.threads.release()
    daemon.disk.room = 0
    daemon.threads.release_all()
    daemon.disk.room, daemon.threads.hold = None, False
    result(Deferred.fromCoroutine(daemon.directory.grants.revoke_stuck()))
    result(Deferred.fromCoroutine(daemon.journal.close()))
    after = daemon.restart()
    assert shown(after, "rqlite") == []
    assert result(claim(after, "rqlite", B)).won


def test_a_removal_takes_the_grant_it_was_sent_for_of_two_in_one_millisecond() -> None:
    daemon = Daemon(limits=Limits(retry_window_ms=0))
    discovery_id = create_id(daemon)
    register(daemon, discovery_id, A)
    daemon.threads.hold = True
    granting = register(daemon, discovery_id, A)
    removing = Deferred.fromCoroutine(daemon.directory.remove(discovery_id, A))
    claiming = claim(daemon, discovery_id, B)
    daemon.threads.release_all()
    assert answer_of(granting) == [A]
    assert not result(removing).removed
    assert not result(claiming).won


def test_a_removal_removes_what_was_shown_although_an_earlier_one_was_refused() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    register(daemon, discovery_id, A)
    daemon.threads.hold = True
    first = Deferred.fromCoroutine(daemon.directory.remove(discovery_id, A))
    registering = register(daemon, discovery_id, B)
    second = Deferred.fromCoroutine(daemon.directory.remove(discovery_id, A))
    daemon.disk.room = 0
    daemon.threads.release()
    for each in (first, registering):
        with pytest.raises(StoreUnavailable):
            result(each)
    daemon.disk.room = None
    daemon.threads.release_all()
    assert result(second).removed
    assert shown(daemon, discovery_id) == []


def test_claims_and_reports_create_ids_only_where_allowed() -> None:
    daemon = Daemon(limits=Limits(create_named=False))
    with pytest.raises(NoSuchID):
        result(claim(daemon, "rqlite", A))
    with pytest.raises(NoSuchID):
        result(report(daemon, "rqlite", A))
    assert result(claim(daemon, create_id(daemon), A)).won


def test_ids_created_by_claims_count_toward_the_limit() -> None:
    daemon = Daemon(limits=Limits(max_ids=1))
    result(claim(daemon, "one", A))
    with pytest.raises(TooManyIDs):
        result(claim(daemon, "two", A))
    with pytest.raises(TooManyIDs):
        result(report(daemon, "two", A))


def test_an_ownerless_id_cannot_be_claimed_but_a_leader_may_report_itself() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    disk = daemon.disk.kill()
    disk.remove(STATE / "identity.json")
    after = daemon.restart(disk)
    with pytest.raises(Ownerless):
        result(claim(after, discovery_id, A))
    assert result(report(after, discovery_id, A))
    assert not result(claim(after, discovery_id, B)).won
