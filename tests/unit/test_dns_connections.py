"""Connections: queries over TCP, from clients that send one, many at once, slowly, or never read
the answers.
"""

from __future__ import annotations

import itertools
import struct
from typing import cast

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.protocols.policies import TimeoutMixin

from rqdisco.core.records import Node
from rqdisco.dns.server import IDLE_SECONDS, MAX_CONNECTIONS, MAX_CONNECTIONS_PER_SOURCE
from tests.support.dns import RCODES, ZONE, Names, answers, checked, messages, question


@pytest.fixture
def names() -> Names:
    return Names()


def addrs(count: int) -> list[str]:
    return [f"10.0.{number >> 8}.{number & 255}:4001" for number in range(count)]


def framed(*messages: bytes) -> bytes:
    """Return messages, each with its length before it."""
    return b"".join(struct.pack("!H", len(message)) + message for message in messages)


def test_queries_that_arrive_together_are_answered_in_order(names: Names) -> None:
    for number in range(50):
        names.add(f"id{number}", f"10.0.0.{number}:4001")
    queries = [question(f"id{number}.{ZONE}") for number in range(50)]
    line = names.connect()
    line.write(*queries)
    got = line.messages()
    for number, (query, answer) in enumerate(zip(queries, got, strict=True)):
        assert answers(checked(query, answer, 65535)) == [f"10.0.0.{number}"]
    line.write(queries[0])
    assert len(line.messages()) == 1, "and more may follow"


def test_one_of_many_queries_of_a_connection_is_answered_per_reactor_turn(names: Names) -> None:
    """A client that sends thousands does not delay the others."""
    line, other = names.connect(), names.connect()
    query = question(f"id.{ZONE}")
    line.put(framed(query) * 1000)
    line.turn()
    for _ in range(3):
        other.put(framed(query))
        other.turn()
        other.turn()
        assert len(other.messages()) == 1
    line.turn()
    assert len(line.messages()) < 10
    line.run()
    assert len(line.messages()) > 990


def test_a_message_may_arrive_byte_by_byte(names: Names) -> None:
    line = names.connect()
    query = question(f"id.{ZONE}")
    for octet in framed(query):
        assert line.messages() == []
        line.write_raw(bytes([octet]))
    assert len(line.messages()) == 1


def test_a_client_without_a_query_for_ten_seconds_is_cut_off(names: Names) -> None:
    line = names.connect()
    for _ in range(3):
        names.reactor.advance(IDLE_SECONDS - 0.1)
        line.write(question(f"id.{ZONE}"))
        assert not line.is_closed
    assert len(line.messages()) == 3
    names.reactor.advance(IDLE_SECONDS)
    line.run()
    assert line.is_closed
    assert names.reactor.getDelayedCalls() == []


def test_half_a_message_is_waited_for_ten_seconds_in_all(names: Names) -> None:
    line = names.connect()
    line.write_raw(b"\0\x30")
    for _ in range(10):
        names.reactor.advance(IDLE_SECONDS / 10)
        line.write_raw(b"\0")
    assert line.is_closed
    assert line.arrived == b""


@pytest.mark.parametrize("message", [b"", b"\0" * 11, b"\0\0\x80" + b"\0" * 30])
def test_a_client_that_sends_no_query_is_cut_off(names: Names, message: bytes) -> None:
    line = names.connect()
    line.write(message, question(f"id.{ZONE}"))
    assert line.is_closed
    assert line.messages() == []
    assert names.reactor.getDelayedCalls() == []


def test_a_malformed_query_is_answered_and_the_connection_continues(names: Names) -> None:
    line = names.connect()
    line.write(bytes(12), question(f"id.{ZONE}"))
    assert [dns.message.from_wire(message).rcode() for message in line.messages()] == [1, 3]


def test_a_half_closed_connection_still_gets_its_answer(names: Names) -> None:
    names.add("id", "10.0.0.1:4001")
    line = names.connect()
    line.put(framed(question(f"id.{ZONE}")))
    line.shut()
    assert [answers(dns.message.from_wire(message)) for message in line.messages()] == [["10.0.0.1"]]
    assert line.is_closed


def test_a_half_closed_connection_gets_as_many_answers_as_it_takes(names: Names) -> None:
    names.add("id", *addrs(1000))
    line = names.connect()
    line.room = 100
    line.put(framed(question(f"id.{ZONE}")) * 9)
    line.shut()
    assert not line.is_closed
    line.room = None
    line.run()
    assert [len(answers(dns.message.from_wire(message))) for message in line.messages()] == [1000] * 9
    assert line.is_closed


def test_a_half_closed_connection_that_takes_no_answer_is_cut_off_in_time(names: Names) -> None:
    line = names.connect()
    line.room = 10
    line.put(framed(question(f"id.{ZONE}")))
    line.shut()
    assert not line.is_closed
    names.reactor.advance(IDLE_SECONDS)
    line.run()
    assert line.is_closed


def test_a_client_that_takes_no_answers_is_not_read_from_and_cut_off_in_time(names: Names) -> None:
    names.add("id", *addrs(1000))
    line = names.connect()
    line.room = 1000
    query = question(f"id.{ZONE}")
    line.put(framed(query) * 5000)
    line.run()
    assert not line.is_read
    assert line.buffered < 65536 + 2 * 16200
    line.room = 20_000
    line.run()
    assert line.buffered < 65536 + 2 * 16200
    names.reactor.advance(IDLE_SECONDS)
    line.run()
    assert line.is_closed
    assert line.unread > 100_000
    assert names.reactor.getDelayedCalls() == []


def test_slow_answers_do_not_make_us_read_from_a_client_that_takes_none(names: Names) -> None:
    names.resolver.hold = True
    line = names.connect()
    line.room = 0
    for number in range(20):
        names.add(f"id{number}", *addrs(999), Node(addr=f"slow{number}:4001"))
        line.put(framed(question(f"id{number}.{ZONE}")))
    for _ in range(20):
        line.run()
        names.resolver.release()
    line.run()
    assert line.buffered < 65536 + 2 * 16200


def test_no_other_query_of_a_connection_is_read_while_an_answer_is_pending(names: Names) -> None:
    names.resolver.hold = True
    names.add("slow", "slow:4001")
    names.add("id", "10.0.0.1:4001")
    line = names.connect()
    line.write(question(f"slow.{ZONE}"), question(f"id.{ZONE}"))
    assert not line.is_read
    assert line.messages() == []
    names.resolver.known = {"slow": ["10.0.0.9"]}
    names.resolver.release()
    line.run()
    assert [answers(dns.message.from_wire(message)) for message in line.messages()] == [["10.0.0.9"], ["10.0.0.1"]]


@pytest.mark.parametrize("ending", ["lost", "timeout", "cut"])
def test_an_answer_whose_connection_is_closed_is_dropped(names: Names, ending: str) -> None:
    names.resolver.hold = True
    names.add("slow", "slow:4001")
    line = names.connect()
    line.write(question(f"slow.{ZONE}"))
    if ending == "lost":
        line.lose()
    elif ending == "timeout":
        cast("TimeoutMixin", line.transport.protocol).timeoutConnection()
    else:
        names.listener.cut()
    names.resolver.release()
    line.run()
    assert line.is_closed
    assert line.messages() == []
    assert names.reactor.getDelayedCalls() == []


def test_a_source_has_a_limit_of_connections_and_the_longest_idle_one_makes_room(names: Names) -> None:
    lines = []
    for _ in range(MAX_CONNECTIONS_PER_SOURCE):
        lines.append(names.connect())
        names.reactor.advance(0.1)
    lines[0].write(question(f"id.{ZONE}"))
    other = names.connect("198.51.100.8")
    late = names.connect()
    names.reactor.advance(0)
    assert [number for number, line in enumerate(lines) if line.is_closed] == [1]
    for line in (late, other, lines[0]):
        line.messages()
        line.write(question(f"id.{ZONE}"))
        assert len(line.messages()) == 1


def test_a_connection_that_waits_for_answers_does_not_make_room(names: Names) -> None:
    names.resolver.hold = True
    names.add("id", "host.example:4001")
    lines = [names.connect() for _ in range(MAX_CONNECTIONS_PER_SOURCE)]
    for line in lines:
        line.write(question(f"id.{ZONE}"))
    late = names.connect()
    late.write(question(f"id.{ZONE}"))
    assert late.is_closed
    assert not any(line.is_closed for line in lines)
    names.resolver.release()
    for line in lines:
        line.run()
        assert len(line.messages()) == 1


def test_connections_of_all_sources_are_limited_and_the_largest_source_makes_room(names: Names) -> None:
    few = [names.connect(f"192.0.2.{number}") for number in range(10)]
    for source in range(MAX_CONNECTIONS // 19):
        for _ in range(19):
            names.connect(f"198.51.100.{source}")
    for number in range(100):
        names.connect(f"203.0.113.{number}")
    names.reactor.advance(0)
    assert len(names.connections.open) == MAX_CONNECTIONS
    assert not any(line.is_closed for line in few)
    names.listener.cut()
    names.reactor.advance(0)
    assert not names.connections.open
    assert names.reactor.getDelayedCalls() == []


@given(st.lists(messages(), max_size=6), st.lists(st.integers(0, 300), max_size=5), st.binary(max_size=40))
def test_every_message_on_a_connection_gets_its_answer_or_the_end(
    sent: list[bytes], cuts: list[int], rest: bytes
) -> None:
    names = Names()
    names.add("id", *addrs(3))
    line = names.connect()
    stream = framed(*sent) + rest
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    for start, end in itertools.pairwise(edges):
        line.write_raw(stream[start:end])
    bad = [number for number, message in enumerate(sent) if len(message) < 12 or message[2] & 0x80]
    got = line.messages()
    assert len(got) >= (bad[0] - 1 if bad else len(sent)), "the last one may still be in flight"
    for message, answer in zip(sent[: bad[0] if bad else None], got, strict=False):
        assert answer[:2] == message[:2]
        assert dns.message.from_wire(answer).rcode() in RCODES
    assert line.is_closed or not bad
    line.shut()
    assert line.is_closed
    assert names.reactor.getDelayedCalls() == []
