"""The limits of connections, and which connections are closed for others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from rqdisco.limits.connection_limiter import ConnectionLimiter

CLOCK = Clock()


class Guest:
    """A connection that is idle until `deadline`, unless it is busy."""

    def __init__(self, deadline: float = 0.0, *, is_busy: bool = False) -> None:
        self.deadline = deadline
        self.is_busy = is_busy
        self.is_cut = False

    def cut(self) -> None:
        self.is_cut = True


def guests(limiter: ConnectionLimiter, host: str, count: int) -> list[Guest]:
    made = [Guest(number) for number in range(count)]
    assert all(limiter.enter(guest, host) for guest in made)
    return made


def test_a_source_over_its_limit_loses_the_connection_with_the_least_time_left() -> None:
    limiter = ConnectionLimiter(100, 3, CLOCK.seconds)
    first, second, third = guests(limiter, "198.51.100.7", 3)
    first.deadline = 9
    other = guests(limiter, "198.51.100.8", 1)
    assert limiter.enter(Guest(), "198.51.100.7")
    assert [guest.is_cut for guest in (first, second, third, *other)] == [False, True, False, False]
    assert len(limiter) == 4


def test_a_source_with_only_busy_connections_gets_no_other() -> None:
    limiter = ConnectionLimiter(100, 2, CLOCK.seconds)
    for guest in guests(limiter, "198.51.100.7", 2):
        guest.is_busy = True
    late = Guest()
    assert not limiter.enter(late, "198.51.100.7")
    limiter.leave(late)
    assert limiter.enter(late, "198.51.100.8")


def test_the_source_with_most_connections_makes_room_when_all_are_taken() -> None:
    limiter = ConnectionLimiter(20, 18, CLOCK.seconds)
    modest = guests(limiter, "198.51.100.8", 2)
    greedy = guests(limiter, "198.51.100.7", 18)
    for number in range(10):
        assert limiter.enter(Guest(99), f"203.0.113.{number}")
    assert sum(guest.is_cut for guest in greedy) == 10
    assert not any(guest.is_cut for guest in modest)
    assert len(limiter) == 20


def test_the_local_host_may_take_all_connections_but_makes_room_for_others() -> None:
    limiter = ConnectionLimiter(10, 2, CLOCK.seconds)
    own = guests(limiter, "127.0.0.1", 5) + guests(limiter, "::ffff:127.0.0.1", 5)
    assert limiter.enter(Guest(), "198.51.100.7")
    assert sum(guest.is_cut for guest in own) == 1


def test_a_closed_connection_frees_its_place() -> None:
    limiter = ConnectionLimiter(2, 1, CLOCK.seconds)
    (guest,) = guests(limiter, "2001:db8::1", 1)
    limiter.leave(guest)
    limiter.leave(guest)
    guests(limiter, "2001:db8::2", 1)
    assert not guest.is_cut
    assert len(limiter) == 1


def test_a_source_that_reconnects_repeatedly_displaces_its_own_a_few_times_and_is_then_closed_at_once() -> None:
    clock = Clock()
    limiter = ConnectionLimiter(1000, 10, clock.seconds)
    guests(limiter, "198.51.100.7", 10)
    came = [not limiter.is_closed_to("198.51.100.7") and limiter.enter(Guest(), "198.51.100.7") for _ in range(200)]
    assert came == [True] * 100 + [False] * 100
    assert not limiter.enter(Guest(), "198.51.100.7")
    assert not limiter.is_closed_to("198.51.100.8")
    assert not limiter.is_closed_to("127.0.0.1")
    assert not limiter.is_closed_to(None)
    clock.advance(1)
    assert sum(limiter.enter(Guest(), "198.51.100.7") for _ in range(50)) == 20
    assert len(limiter) == 10


HOSTS = st.sampled_from(["198.51.100.7", "198.51.100.8", "2001:db8::1", "2001:db8::2", "127.0.0.1", None])


@given(st.lists(st.tuples(HOSTS, st.booleans(), st.integers(0, 5)), max_size=60), st.integers(1, 8), st.integers(1, 4))
def test_the_limit_is_never_exceeded(steps: list[tuple[str | None, bool, int]], most: int, most_each: int) -> None:
    limiter = ConnectionLimiter(most, most_each, CLOCK.seconds)
    inside: list[tuple[Guest, str | None]] = []
    for host, is_busy, goes in steps:
        if goes < len(inside) and goes % 2:
            limiter.leave(inside.pop(goes)[0])
        guest = Guest(goes, is_busy=is_busy)
        if limiter.enter(guest, host):
            inside.append((guest, host))
        inside = [(guest, host) for guest, host in inside if not guest.is_cut]
        assert len(limiter) == len(inside) <= most
        for one in ("198.51.100.7", "198.51.100.8"):
            assert sum(host == one for _, host in inside) <= most_each
        assert sum(host is not None and host.startswith("2001") for _, host in inside) <= most_each
        assert not any(guest.is_cut and guest.is_busy for guest, _ in inside)


def test_a_proxy_that_acts_for_many_clients_has_no_limit_of_its_own() -> None:
    proxy = "10.9.0.1"
    limiter = ConnectionLimiter(5, 2, CLOCK.seconds, lambda host: host == proxy)
    connections = guests(limiter, proxy, 4)
    assert not limiter.is_closed_to(proxy)
    assert not any(guest.is_cut for guest in connections)
    guests(limiter, "198.51.100.7", 2)
    assert [guest.is_cut for guest in connections] == [True, False, False, False], "the total is for all"
