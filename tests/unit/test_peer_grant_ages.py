"""The assumed age of grants of other owners."""

from __future__ import annotations

from msgspec.structs import replace
from twisted.internet.task import Clock

from rqdisco.backends.gossip.core.grant_ages import GrantAges
from rqdisco.core.records import Grant, Record

WINDOW = 30.0


def granted(number: int = 0, at: int = 1) -> Record:
    grant = Grant(addr="n1:4001", boot=1, at=at)
    return Record(id=f"id-{number}", owner="0123456789abcdef", version=1, created_at=0, grant=grant)


def test_a_grant_is_young_from_its_first_sighting_to_the_end_of_the_window() -> None:
    clock = Clock()
    ages = GrantAges(clock.seconds(), WINDOW)
    clock.advance(1000)
    ages.observe(granted(), clock.seconds())
    clock.advance(29)
    ages.observe(granted(), clock.seconds())
    assert ages.is_young(granted(), clock.seconds())
    clock.advance(2)
    assert not ages.is_young(granted(), clock.seconds())


def test_another_grant_of_the_same_id_is_young_again() -> None:
    clock = Clock()
    ages = GrantAges(clock.seconds(), WINDOW)
    ages.observe(granted(), clock.seconds())
    clock.advance(20)
    ages.observe(granted(at=2), clock.seconds())
    clock.advance(20)
    assert ages.is_young(granted(at=2), clock.seconds())
    assert not ages.is_young(granted(at=1), clock.seconds())


def test_a_grant_present_at_the_start_is_as_young_as_the_start() -> None:
    clock = Clock()
    ages = GrantAges(clock.seconds(), WINDOW)
    assert ages.is_young(granted(), clock.seconds())
    clock.advance(31)
    assert not ages.is_young(granted(), clock.seconds())


def test_evicted_grants_count_as_young() -> None:
    clock = Clock()
    ages = GrantAges(clock.seconds(), WINDOW, max_grants=2)
    clock.advance(1000)
    for number in range(4):
        ages.observe(granted(number), clock.seconds())
        clock.advance(1)
    clock.advance(26.5)
    assert [ages.is_young(granted(number), clock.seconds()) for number in range(4)] == [True, True, True, True]
    clock.advance(1)
    assert [ages.is_young(granted(number), clock.seconds()) for number in range(4)] == [False, False, True, True]
    clock.advance(30)
    assert not any(ages.is_young(granted(number), clock.seconds()) for number in range(4))


def test_a_cluster_that_has_a_leader_is_not_remembered() -> None:
    clock = Clock()
    ages = GrantAges(clock.seconds(), WINDOW)
    clock.advance(1000)
    ages.observe(replace(granted(), confirmed=True), clock.seconds())
    assert not ages.is_young(replace(granted(), confirmed=True), clock.seconds())
