"""Host names among the addresses: resolved for answers that need it, in time, and at a bounded
cost.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any, cast

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock

from rqdisco.core.records import Node
from rqdisco.probes.resolution import host_names
from rqdisco.probes.resolution.host_names import MAX_WAIT_SECONDS, HostNames, Resolve
from rqdisco.probes.resolution.system_resolver import SystemResolver
from tests.support.daemon import result
from tests.support.dns import ZONE, Names, additional, answers, checked, is_absent, question
from tests.support.resolver import Resolver

pytestmark = pytest.mark.usefixtures("each_backend")

RAFT = f"_rqlite-raft._tcp.id.{ZONE}"
UNRESOLVED = "registered host name does not resolve and is omitted from DNS answers"


@pytest.fixture
def names() -> Names:
    return Names()


def warned(log: list[dict[str, Any]]) -> list[str]:
    """Return the hosts that the log warns of."""
    return [event["host"] for event in log if event["log_format"] == UNRESOLVED]


class Asker:
    """Looks up the addresses of host names, and records when they arrive."""

    def __init__(self, resolve: Resolve | None = None) -> None:
        self.clock = Clock()
        self.resolver = Resolver()
        self.hosts = HostNames(self.clock, resolve or self.resolver)

    def __call__(self, *names: str, of: str = "id") -> Deferred[dict[str, list[str]]]:
        """Fires with the addresses of each name, looked up for the ID `of`."""
        asking = Deferred.fromCoroutine(self.hosts.addresses(of, names))
        return asking.addCallback(lambda found: {name: list(each.ips) for name, each in found.items()})

    def now(self, *names: str, of: str = "id") -> dict[str, list[str]]:
        """Return the answer without waiting."""
        answer: dict[str, list[str]] = result(self(*names, of=of))
        return answer

    def later(self, *names: str, of: str = "id") -> dict[str, list[str]]:
        """Return the final answer."""
        asking = self(*names, of=of)
        self.clock.advance(0 if asking.called else MAX_WAIT_SECONDS)
        answer: dict[str, list[str]] = result(asking)
        return answer


@pytest.fixture
def ask() -> Asker:
    return Asker()


def test_a_host_name_has_each_resolved_address_once(names: Names) -> None:
    names.resolver.known = {"n1.example.org": ["10.0.0.1", "fd00::1", "10.0.0.2"], "n2": ["10.0.0.2"]}
    names.add("id", "N1.example.org:4001", "10.0.0.9:4001", "n2:4001")
    assert answers(names.ask(f"id.{ZONE}")) == ["10.0.0.1", "10.0.0.2", "10.0.0.9"]
    assert answers(names.ask(f"id.{ZONE}", "AAAA")) == ["fd00::1"]


def test_a_service_points_to_a_host_name_directly(names: Names) -> None:
    names.resolver.known = {"n1.example.org": ["10.0.0.1"]}
    names.add("id", "n1.example.org:4001", "10.0.0.2:4001")
    got = names.ask(RAFT, "SRV")
    assert answers(got) == ["1 1 4002 n1.example.org.", f"1 1 4002 n-0a000002.id.{ZONE}."]
    assert additional(got) == {f"n-0a000002.id.{ZONE}.": ["10.0.0.2"]}, "the other names have names of their own"


def test_a_host_name_that_does_not_resolve_is_left_out(names: Names, log: Any) -> None:
    """One target without an address fails the whole lookup of a client (Go's resolver, rqlite's
    client).
    """
    names.add("id", "gone.example.org:4001", "10.0.0.2:4001")
    assert answers(names.ask(f"id.{ZONE}")) == ["10.0.0.2"]
    assert answers(names.ask(RAFT, "SRV")) == [f"1 1 4002 n-0a000002.id.{ZONE}."]
    names.add("none", "gone.example.org:4001")
    assert is_absent(names.ask(f"none.{ZONE}"))
    assert is_absent(names.ask(f"_rqlite-raft._tcp.none.{ZONE}", "SRV"))
    assert warned(log) == ["gone.example.org"]


@pytest.mark.parametrize("ip", ["0.0.0.0", "::", "::ffff:0.0.0.0", "224.0.0.1", "fe80::1%eth0"])
def test_a_host_name_that_resolves_to_no_machine_does_not_resolve(names: Names, ip: str) -> None:
    """As in a hosts file that blocks names."""
    names.resolver.known = {"n1": [ip], "n2": [ip, "::ffff:10.0.0.2"]}
    names.add("id", "n1:4001", "n2:4001")
    assert answers(names.ask(f"id.{ZONE}")) == ["10.0.0.2"]
    assert is_absent(names.ask(f"id.{ZONE}", "AAAA"))
    assert answers(names.ask(RAFT, "SRV")) == ["1 1 4002 n2."]


def test_names_in_our_own_zone_are_not_looked_up(names: Names) -> None:
    """The system resolver would query us."""
    names.add("id", f"other.{ZONE}:4001", f"ID.{ZONE.upper()}.:4001", f"{ZONE}:4001", "10.0.0.2:4001")
    assert answers(names.ask(f"id.{ZONE}")) == ["10.0.0.2"]
    assert len(answers(names.ask(RAFT, "SRV"))) == 1
    assert names.resolver.asked == []


def test_a_slow_host_name_is_waited_for_a_second_and_a_half(names: Names) -> None:
    names.resolver.hold = True
    names.resolver.known = {"slow": ["10.0.0.1"]}
    names.add("id", "slow:4001", "10.0.0.2:4001")
    others = set(names.reactor.getDelayedCalls())
    query = question(f"id.{ZONE}")
    assert names.exchange(query) == []
    names.reactor.advance(1.4)
    assert names.udp.sent == []
    names.reactor.advance(0.1)
    ((answer, _),) = names.udp.sent
    assert answers(checked(query, answer, 1232)) == ["10.0.0.2"]
    assert answers(names.ask(f"id.{ZONE}")) == ["10.0.0.2"], "and not waited for again"
    names.resolver.release()
    assert answers(names.ask(f"id.{ZONE}")) == ["10.0.0.1", "10.0.0.2"], "but used when it arrives"
    assert set(names.reactor.getDelayedCalls()) <= others


def test_a_later_query_waits_no_longer_than_the_first(ask: Asker) -> None:
    ask.resolver.hold = True
    first = ask("slow")
    ask.clock.advance(1)
    second = ask("slow", "slow2")
    ask.clock.advance(0.5)
    assert result(first) == {"slow": []}
    assert not second.called, "for the other name"
    ask.clock.advance(1)
    assert result(second) == {"slow": [], "slow2": []}
    assert ask.resolver.asked == ["slow", "slow2"]


def test_an_answer_comes_as_soon_as_the_last_name_is_known(ask: Asker) -> None:
    ask.resolver.hold = True
    ask.resolver.known = {"a": ["10.0.0.1"], "b": ["10.0.0.2"]}
    asking = ask("a", "b", "a")
    assert not asking.called
    ask.resolver.release()
    assert result(asking) == {"a": ["10.0.0.1"], "b": ["10.0.0.2"]}
    assert ask.clock.getDelayedCalls() == []


def test_a_found_name_is_cached_for_ten_seconds_and_a_missing_one_for_five(ask: Asker) -> None:
    ask.resolver.known = {"a": ["10.0.0.1"]}
    for seconds in (0, 4.9, 0.1, 4.9, 0.1):
        ask.clock.advance(seconds)
        assert ask.now("a", "b") == {"a": ["10.0.0.1"], "b": []}
    assert ask.resolver.asked == ["a", "b", "b", "a", "b"]


def test_a_known_address_is_not_dropped_while_another_name_is_waited_for(ask: Asker, log: Any) -> None:
    ask.resolver.known = {"a": ["10.0.0.1"]}
    ask.now("a")
    ask.clock.advance(9)
    ask.resolver.hold = True
    asking = ask("a", "slow")
    ask.clock.advance(1.5)
    assert result(asking) == {"a": ["10.0.0.1"], "slow": []}
    assert warned(log) == ["slow"]


def test_a_changed_name_is_followed_and_a_removed_one_is_forgotten(ask: Asker) -> None:
    for known in (["10.0.0.1"], ["10.0.0.2"], []):
        ask.resolver.known = {"a": known}
        assert ask.now("a") == {"a": known}
        ask.clock.advance(10)


def test_a_name_is_warned_of_once_a_minute(ask: Asker, log: Any) -> None:
    for _ in range(119):
        ask.now("gone", "gone2")
        ask.clock.advance(1)
    assert sorted(warned(log)) == ["gone", "gone", "gone2", "gone2"]


def test_four_names_of_one_id_are_looked_up_at_once_and_the_rest_in_order(ask: Asker) -> None:
    ask.resolver.hold = True
    wanted = [f"n{number}" for number in range(10)]
    asking = ask(*wanted)
    assert ask.resolver.asked == wanted[:4]
    ask.resolver.release()
    assert ask.resolver.asked == wanted[:8]
    ask.resolver.release()
    ask.resolver.release()
    assert list(result(asking)) == ask.resolver.asked == wanted


def test_thirty_two_names_of_all_ids_are_looked_up_at_once_and_ids_take_turns(ask: Asker) -> None:
    ask.resolver.hold = True
    ids = [f"id{number}" for number in range(10)]
    for each in ids:
        ask(*(f"{each}-n{number}" for number in range(6)), of=each)
    assert len(ask.resolver.asked) == 32
    assert {host.partition("-")[0] for host in ask.resolver.asked} == set(ids[:8])
    ask.resolver.release()
    assert ask.resolver.asked[32:34] == ["id8-n0", "id9-n0"]
    while ask.resolver.held:
        ask.resolver.release()
    assert len(ask.resolver.asked) == 60


def test_an_unresponsive_resolver_costs_a_bounded_amount_and_delays_nobody_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(host_names, "CAPACITY", 20)
    ask = Asker()
    ask.resolver.hold = True
    for number in range(100):
        assert ask.later("slow", f"n{number}") == {"slow": [], f"n{number}": []}
    for _ in range(100):
        assert ask.now("slow") == {"slow": []}, "at once"
    assert len(ask.resolver.asked) == 4
    assert len(ask.hosts._queue) == len(ask.hosts._cache) == 20
    assert len(ask.hosts._lookups) == 24
    assert ask.clock.getDelayedCalls() == []


def test_a_query_is_answered_from_the_cache_when_too_many_wait_for_its_id(ask: Asker) -> None:
    ask.resolver.known = {"a": ["10.0.0.1"], "slow": ["10.0.0.2"]}
    ask.now("a")
    ask.resolver.hold = True
    asking = [ask("slow") for _ in range(100)]
    assert ask.now("a", "slow") == {"a": ["10.0.0.1"], "slow": []}
    other = ask("slow", of="other")
    assert not other.called, "nobody else is"
    ask.resolver.release()
    assert all(each.called for each in asking)
    assert result(other) == {"slow": ["10.0.0.2"]}
    ask.clock.advance(10)
    assert not ask("slow").called, "there is room again"
    ask.clock.advance(1.5)


def test_a_query_is_answered_from_the_cache_when_too_many_wait_in_all(
    ask: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_names, "MAX_WAITING", 10)
    ask.resolver.hold = True
    asking = [ask("slow", of=f"id{number}") for number in range(10)]
    assert ask.now("slow", of="other") == {"slow": []}
    ask.clock.advance(1.5)
    assert all(each.called for each in asking)
    assert not ask("slow2", of="other").called, "there is room again"
    ask.clock.advance(1.5)


@pytest.mark.parametrize("silently", [True, False])
def test_addresses_are_cached_for_a_day_while_the_resolver_is_unresponsive_or_fails(ask: Asker, silently: bool) -> None:
    ask.resolver.known = {"a": ["10.0.0.1"]}
    assert ask.now("a") == {"a": ["10.0.0.1"]}
    ask.resolver.goes_away(silently=silently)
    while ask.clock.seconds() < 86_400 - 60:
        ask.clock.advance(50)
        assert ask.later("a") == {"a": ["10.0.0.1"]}
    ask.clock.advance(60)
    assert ask.later("a") == {"a": []}


def test_a_lookup_that_never_ends_is_waited_for_once(ask: Asker) -> None:
    ask.resolver.known = {"a": ["10.0.0.1"]}
    ask.now("a")
    ask.resolver.goes_away(silently=True)
    ask.clock.advance(10)
    assert not ask("a").called
    ask.clock.advance(1.5)
    for _ in range(1000):
        assert ask.now("a") == {"a": ["10.0.0.1"]}
        ask.clock.advance(1)


def test_a_failed_refresh_is_retried_in_half_a_minute_and_followed(ask: Asker) -> None:
    ask.resolver.known = {"a": ["10.0.0.1"]}
    ask.now("a")
    ask.resolver.goes_away(silently=False)
    for _ in range(100):
        ask.now("a")
        ask.clock.advance(1)
    assert len(ask.resolver.asked) == 4, "at 0, 10, 40 and 70 seconds"
    ask.resolver.is_broken = lambda _: False
    ask.resolver.known = {"a": ["10.0.0.2"]}
    assert ask.now("a") == {"a": ["10.0.0.2"]}


def test_a_name_that_no_longer_exists_is_not_cached(ask: Asker) -> None:
    """That is an answer, not a failure (RFC 8767 section 4)."""
    ask.resolver.known = {"a": ["10.0.0.1"]}
    ask.now("a")
    ask.resolver.known = {}
    ask.clock.advance(10)
    assert ask.now("a") == {"a": []}
    ask.resolver.goes_away(silently=False)
    ask.clock.advance(10)
    assert ask.now("a") == {"a": []}


def test_all_ids_share_the_addresses_that_one_found_and_wait_no_longer(ask: Asker) -> None:
    ask.resolver.known = {"a": ["10.0.0.1"]}
    ask.resolver.hold = True
    ask(*(f"n{number}" for number in range(4)), of="noisy")
    waiting = ask("a", of="noisy")
    other = ask("a", of="quiet")
    assert ask.resolver.asked[4:] == ["a"], "for the ID whose turn it is"
    (answer,) = [answer for host, answer in ask.resolver.held if host == "a"]
    ask.resolver.held = [each for each in ask.resolver.held if each[1] is not answer]
    answer.callback(["10.0.0.1"])
    assert result(other) == result(waiting) == {"a": ["10.0.0.1"]}
    ask.resolver.release()
    assert ask.resolver.asked.count("a") == 1
    ask.clock.advance(1.5)


def test_a_late_failure_takes_nothing_from_a_lookup_that_succeeded(ask: Asker) -> None:
    ask.resolver.known = {"a": ["10.0.0.1"]}
    ask.resolver.hold = True
    ask("a", of="one"), ask("a", of="two")
    (_, first), (_, second) = ask.resolver.held
    ask.resolver.held = []
    second.callback(["10.0.0.1"])
    first.errback(OSError("late"))
    ask.clock.advance(9)
    assert ask.now("a") == {"a": ["10.0.0.1"]}
    ask.clock.advance(1)
    assert not ask("a").called, "it is looked up again when that is due"
    ask.clock.advance(1.5)


def test_an_id_with_many_names_evicts_only_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_names, "CAPACITY", 20)
    ask = Asker()
    ask.resolver.known = {f"n{number}": ["10.0.0.1"] for number in range(100)}
    ask.now("n0", "n1", of="quiet")
    ask.now(*ask.resolver.known, of="noisy")
    ask.resolver.goes_away(silently=False)
    ask.clock.advance(100)
    assert ask.now("n0", "n1", of="quiet") == {"n0": ["10.0.0.1"], "n1": ["10.0.0.1"]}
    assert len(ask.hosts._cache) == 20


@pytest.mark.parametrize("at_once", [True, False])
def test_a_failing_resolver_has_not_found_the_name(at_once: bool) -> None:
    failing: list[Deferred[Sequence[str]]] = []

    def resolve(host: str) -> Deferred[Sequence[str]]:
        if at_once:
            raise OSError("no threads left")
        failing.append(Deferred())
        return failing[-1]

    asking = Asker(resolve)("a")
    for each in failing:
        each.errback(OSError("broken"))
    assert result(asking) == {"a": []}


def test_nodes_with_a_thousand_unknown_names_are_one_answer_with_one_wait(names: Names) -> None:
    names.resolver.hold = True
    names.add("id", *(Node(addr=f"n{number}:1") for number in range(999)), "10.0.0.1:1")
    assert names.exchange(question(f"id.{ZONE}")) == []
    names.reactor.advance(1.5)
    assert len(names.udp.sent) == 1
    assert answers(names.ask(f"id.{ZONE}")) == ["10.0.0.1"]


@ensureDeferred
async def test_the_system_resolver_is_called_in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    from twisted.internet import reactor

    def getaddrinfo(host: str, port: object, **_: object) -> list[Any]:
        if host == "n1":
            return [
                (0, 0, 0, "", ("10.0.0.1", 0)),
                (0, 0, 0, "", ("fe80::1%eth0", 0, 0, 2)),
                (0, 0, 0, "", ("fd00::1", 0)),
            ]
        if host == "." * 9:
            raise UnicodeError
        raise socket.gaierror(socket.EAI_AGAIN if host == "away" else socket.EAI_NONAME, "no")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    resolve = SystemResolver(cast("Any", reactor), 2)
    try:
        found = await gatherResults([resolve(host) for host in ("n1", "gone", "." * 9)])
        assert found == [["10.0.0.1", "fd00::1"], [], []]
        with pytest.raises(socket.gaierror):
            await resolve("away")
        assert all(thread.daemon for thread in resolve._pool.threads)
    finally:
        resolve._pool.stop()
