"""The faults of the model etcd that no real one can be asked for: lost, late and repeated requests,
members that are cut off, and elections at will.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from rqdisco.http_client.interfaces import ConnectionBroken, NotSent, PostReply
from tests.support.etcd.authentication import authentication
from tests.support.etcd.documents import changed_at, create, inner, put, range_, txn
from tests.support.etcd.encoding import b64
from tests.support.etcd.gateway import Gateway
from tests.support.etcd.memory import (
    DELIVER,
    HANG,
    LOSE_ANSWER,
    LOSE_REQUEST,
    REFUSE,
    Fate,
    ModelStream,
    ModelStreams,
    ModelTransport,
    Sent,
    model_on,
)
from tests.support.etcd.subjects import InMemory
from tests.support.etcd.wire import accounts_have_changed, leader_changed

NAMES = ("e1", "e2", "e3")
KEY = {"key": b64("key")}
TXN = "/v3/kv/txn"
ONCE = txn([changed_at("key", 0)], [put("key")], [range_("key")])


class World:
    """Three members on a clock; `fates` are those of the next requests."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.model = model_on(self.clock, NAMES)
        self.fates: list[Fate] = []
        self.delays: list[float] = []
        gateway, members = Gateway(self.model), {f"http://{name}": name for name in NAMES}
        self.transport = ModelTransport(gateway, members, self.clock, self._plan)
        self.streams = ModelStreams(gateway, members, self.clock, lambda: self.delays.pop(0) if self.delays else 0.0)

    def post(self, path: str, document: object, name: str = "e1") -> list[Any]:
        """Send a request; return what comes of it: a document, or the kind of the failure."""
        self.answer = self.transport.post(f"http://{name}", path, json.dumps(document).encode(), None, 5.0)
        return outcome(self.answer)

    def read(self) -> str | None:
        """Return the version of the key, by the leader."""
        assert self.model.leader is not None
        (answer,) = self.post("/v3/kv/range", KEY, self.model.leader.name)
        return str(answer["kvs"][0]["version"]) if "kvs" in answer else None

    def watch(self, name: str = "e1", requests: Sequence[object] = (create("key"),)) -> tuple[ModelStream, list[Any]]:
        lines: list[Any] = []
        body = b" ".join(json.dumps(each).encode() for each in requests)
        stream = self.streams.open(
            f"http://{name}", "/v3/watch", body, None, lambda line: lines.append(json.loads(line))
        )
        stream.done.addCallbacks(lambda _: lines.append("end"), lambda failure: lines.append(failure.type))
        return stream, lines

    def _plan(self, _: Sent) -> Fate:
        return self.fates.pop(0) if self.fates else DELIVER


def outcome(answer: Deferred[PostReply]) -> list[Any]:
    outcomes: list[Any] = []
    answer.addCallbacks(
        lambda reply: outcomes.append(json.loads(reply.body)), lambda failure: outcomes.append(failure.type)
    )
    return outcomes


@pytest.fixture
def world() -> World:
    return World()


def test_a_connection_that_is_refused_sends_nothing(world: World) -> None:
    world.fates = [REFUSE]
    assert world.post(TXN, ONCE) == [NotSent]
    world.model.stop("e1")
    assert world.post(TXN, ONCE) == [NotSent]
    assert world.read() is None


def test_a_lost_request_changes_nothing_and_a_lost_answer_does_not_undo(world: World) -> None:
    world.fates = [LOSE_REQUEST]
    assert world.post(TXN, ONCE) == [ConnectionBroken]
    assert world.read() is None
    world.fates = [LOSE_ANSWER]
    assert world.post(TXN, ONCE) == [ConnectionBroken]
    assert world.read() == "1"


def test_a_request_that_hangs_fails_when_its_time_is_up(world: World) -> None:
    world.fates = [HANG]
    outcomes = world.post(TXN, ONCE)
    world.clock.advance(4.9)
    assert outcomes == []
    world.clock.advance(0.1)
    assert outcomes == [ConnectionBroken]


def test_a_request_that_its_client_gave_up_arrives_nevertheless(world: World) -> None:
    world.fates = [Fate(arrives=(30.0,))]
    outcomes = world.post(TXN, ONCE)
    world.answer.cancel()
    assert outcomes == [CancelledError]
    assert world.read() is None
    world.clock.advance(30.0)
    assert world.read() == "1"


def test_a_copy_that_comes_later_is_another_request(world: World) -> None:
    world.fates = [Fate(arrives=(0.0, 30.0)), Fate(arrives=(0.0, 30.0))]
    assert "succeeded" in world.post(TXN, ONCE)[0]
    world.post("/v3/kv/put", KEY)
    world.clock.advance(30.0)
    assert world.read() == "3"


def test_a_late_answer_is_the_one_of_the_time_of_arrival(world: World) -> None:
    world.fates = [Fate(arrives=(1.0,), answered=2.0)]
    outcomes = world.post(TXN, ONCE)
    world.clock.advance(1.0)
    world.post("/v3/kv/put", KEY)
    assert outcomes == []
    world.clock.advance(2.0)
    assert outcomes[0]["header"]["revision"] == "2"


def test_an_error_can_come_instead_of_the_answer_to_a_request_that_was_applied(world: World) -> None:
    world.fates = [Fate(instead=leader_changed())]
    assert world.post(TXN, ONCE)[0]["message"] == "etcdserver: leader changed"
    assert world.read() == "1"


def test_an_error_can_refuse_a_request(world: World) -> None:
    world.fates = [Fate(instead=accounts_have_changed(), applied=False)]
    assert world.post(TXN, ONCE)[0]["code"] == 3
    assert world.read() is None


def test_a_member_that_stops_breaks_what_it_has_not_answered(world: World) -> None:
    world.fates = [Fate(answered=2.0)]
    outcomes = world.post(TXN, ONCE)
    world.model.stop("e1")
    assert outcomes == [ConnectionBroken]


def test_a_member_that_hangs_deals_with_everything_when_it_goes_on_and_with_nothing_if_it_is_killed(
    world: World,
) -> None:
    world.model.hang("e2")
    outcomes = world.post(TXN, ONCE, "e2")
    _, lines = world.watch("e2")
    world.clock.advance(60.0)
    assert (outcomes, lines) == ([ConnectionBroken], [])
    world.model.resume("e2")
    assert world.read() == "1"
    assert lines[0]["result"]["created"]
    world.model.hang("e2")
    waiting, (_, opened) = world.post("/v3/kv/put", KEY, "e2"), world.watch("e2")
    world.model.stop("e2")
    assert waiting == opened == [ConnectionBroken]
    assert world.read() == "1"


def test_a_watch_of_a_member_that_is_cut_off_is_silent_and_catches_up(world: World) -> None:
    _, lines = world.watch("e2")
    world.model.cut_off("e2")
    world.post("/v3/kv/put", KEY)
    assert len(lines) == 1
    assert world.post("/v3/maintenance/status", {}, "e2")[0]["header"]["revision"] == "1"
    world.model.rejoin("e2")
    assert [each["kv"]["version"] for each in lines[1]["result"]["events"]] == ["1"]


@pytest.mark.parametrize("late", [True, False])
def test_a_write_to_a_member_that_is_cut_off_may_be_applied_later(world: World, late: bool) -> None:
    world.model.cut_off("e2")
    outcomes = world.post(TXN, ONCE, "e2")
    world.clock.advance(5.0)
    assert outcomes == [ConnectionBroken]
    assert world.read() is None
    world.model.rejoin("e2", late=lambda: late)
    assert world.read() == ("1" if late else None)


def test_a_write_without_a_majority_is_decided_once_there_is_one(world: World) -> None:
    world.model.cut_off("e2", "e3")
    assert world.model.leader is None
    world.post(TXN, ONCE)
    world.model.decide()
    world.model.rejoin("e2")
    assert world.read() == "1"


def test_elections_can_wait(world: World) -> None:
    granted = world.post("/v3/lease/grant", {"TTL": "10"})[0]["ID"]
    world.clock.advance(9.0)
    world.model.depose()
    world.clock.advance(9.0)
    outcomes = world.post("/v3/kv/range", KEY, "e2")
    world.model.elect("e3")
    assert world.model.leader is world.model.members["e3"]
    assert world.post("/v3/lease/timetolive", {"ID": granted})[0]["TTL"] == "9"
    world.clock.advance(10.0)
    assert outcomes == [ConnectionBroken]
    assert world.post("/v3/lease/timetolive", {"ID": granted})[0]["TTL"] == "-1"


def test_a_lease_ends_by_the_clock_and_watches_see_it_at_once(world: World) -> None:
    lease = world.post("/v3/lease/grant", {"TTL": "10"})[0]["ID"]
    shorter = world.post("/v3/lease/grant", {"TTL": "3"})[0]["ID"]
    world.post("/v3/kv/put", {**KEY, "lease": lease})
    _, lines = world.watch()
    world.clock.pump([3.0, 6.9])
    assert world.post("/v3/lease/timetolive", {"ID": shorter})[0]["TTL"] == "-1"
    assert len(lines) == 1
    world.clock.advance(0.1)
    assert lines[1]["result"]["events"][0]["type"] == "DELETE"


def test_a_token_ends_after_five_minutes_without_use() -> None:
    etcd = InMemory()
    with authentication(etcd, "/test/") as (_, token):
        for seconds, status in ((299.0, 200), (299.0, 200), (300.0, 401)):
            etcd.pass_time(seconds)
            assert etcd.post("/v3/kv/range", {"key": b64("/test/")}, token).status == status


def test_streams_break_when_told_and_others_are_not_opened(world: World) -> None:
    _, first = world.watch("e1")
    _, second = world.watch("e2")
    world.model.break_streams("e1")
    assert (first[1:], second[1:]) == ([ConnectionBroken], [])
    world.model.break_streams()
    assert second[1:] == [ConnectionBroken]
    world.streams.refuses = True
    assert world.watch()[1] == [NotSent]


def test_a_stream_that_its_client_closed_ends_and_says_nothing_more(world: World) -> None:
    stream, lines = world.watch()
    stream.close()
    world.post("/v3/kv/put", KEY)
    assert lines[1:] == ["end"]
    assert world.model.streams == []


def test_lines_of_a_stream_may_come_late_and_stay_in_order(world: World) -> None:
    world.delays = [0.0, 3.0, 1.0, 0.0]
    _, lines = world.watch()
    for _ in range(3):
        world.post("/v3/kv/put", KEY)
    world.clock.advance(2.9)
    assert len(lines) == 1
    world.clock.advance(0.1)
    assert [line["result"]["header"]["revision"] for line in lines] == ["1", "2", "3", "4"]


def test_a_backup_can_be_put_back_again_and_again(world: World) -> None:
    world.post(TXN, ONCE)
    lease = world.post("/v3/lease/grant", {"TTL": "10"})[0]["ID"]
    saved = world.model.save()
    for _ in range(2):
        _, lines = world.watch()
        world.post("/v3/kv/put", {**KEY, "lease": lease})
        world.post(TXN, txn(success=[inner([], [put("other")])]))
        world.clock.advance(9.0)
        world.model.restore(saved)
        assert lines[-1] is ConnectionBroken
        assert world.read() == "1"
        assert world.model.keyspace.revision == 2
        assert world.post("/v3/lease/timetolive", {"ID": lease})[0]["TTL"] == "9"
