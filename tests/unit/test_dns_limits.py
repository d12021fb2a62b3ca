"""The number of answers to a source over UDP, and what happens to the rest."""

from __future__ import annotations

import dns.flags
import dns.message
import pytest
from twisted.internet.task import Clock

from rqdisco.dns.response_rate_limit import ResponseRateLimit
from rqdisco.limits.rates import MOST_SOURCES
from tests.support.dns import ZONE, Names, answers, question


class Limit:
    """A limit, and a clock."""

    def __init__(self, rate: float) -> None:
        self.clock = Clock()
        self.limit = ResponseRateLimit(rate, self.clock.seconds)

    def __call__(self, host: str, asked: int = 100) -> int:
        """Return how many of this many concurrent answers `host` is allowed."""
        return sum(self.limit.allows(host) for _ in range(asked))


def test_a_source_gets_one_seconds_worth_at_once_and_then_its_rate() -> None:
    limit = Limit(10)
    assert limit("198.51.100.7") == 10
    limit.clock.advance(0.55)
    assert limit("198.51.100.7") == 5
    limit.clock.advance(0.05)
    assert limit("198.51.100.7") == 1, "halves add up"
    limit.clock.advance(3600)
    assert limit("198.51.100.7") == 10


def test_sources_do_not_share() -> None:
    limit = Limit(10)
    assert limit("198.51.100.7") == limit("198.51.100.8") == limit("2001:db8::1") == 10


def test_a_whole_ipv6_network_is_one_source() -> None:
    limit = Limit(10)
    assert limit("2001:db8:0:1::1") + limit("2001:db8:0:1:ffff::2") == 10
    assert limit("2001:db8:0:2::1") == 10
    assert limit("fe80::1%eth0") + limit("fe80::2") == 10


def test_ipv4_is_the_same_source_through_an_ipv6_socket() -> None:
    limit = Limit(10)
    assert limit("::ffff:198.51.100.7") + limit("198.51.100.7") == 10


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_the_local_host_is_not_limited(host: str) -> None:
    assert Limit(1)(host) == 100


def test_nobody_is_limited_without_a_rate() -> None:
    limit = Limit(0)
    assert limit("198.51.100.7") == 100
    assert not limit.limit._buckets


def test_a_rate_below_one_a_second_is_one_every_few_seconds() -> None:
    limit = Limit(0.5)
    assert limit("198.51.100.7") == 1
    limit.clock.advance(1.9)
    assert limit("198.51.100.7") == 0
    limit.clock.advance(0.1)
    assert limit("198.51.100.7") == 1


def test_busy_sources_are_remembered_longest_within_a_bound() -> None:
    limit = Limit(10)
    assert limit("198.51.100.7") == 10
    for number in range(2 * MOST_SOURCES):
        limit.limit.allows(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        if number % 1000 == 0:
            assert limit("198.51.100.7", 1) == 0
    assert len(limit.limit._buckets) == MOST_SOURCES


@pytest.mark.parametrize("size", [None, 1232])
def test_a_source_over_the_limit_is_sent_to_tcp_by_an_answer_no_longer_than_its_query(size: int | None) -> None:
    names = Names(rate=3)
    names.add("id", *(f"10.0.0.{number}:4001" for number in range(20)))
    for _ in range(3):
        assert len(answers(names.ask(f"id.{ZONE}", size=size))) == 20
    for _ in range(3):
        query = question(f"id.{ZONE}", size=size)
        (answer,) = names.exchange(query)
        assert len(answer) == len(query)
        assert dns.message.from_wire(answer).flags & dns.flags.TC
        assert names.exchange(query, ("198.51.100.8", 53)) != [answer], "others are answered"
    assert len(answers(names.ask_over_tcp(f"id.{ZONE}"))) == 20, "where nobody can forge the source"
    names.reactor.advance(1)
    assert len(answers(names.ask(f"id.{ZONE}", size=size))) == 20


def test_a_malformed_query_over_the_limit_is_not_answered() -> None:
    names = Names(rate=1)
    names.ask(f"id.{ZONE}")
    assert names.exchange(bytes(40)) == []
    assert names.exchange(question(f"id.{ZONE}")[:20]) == []
