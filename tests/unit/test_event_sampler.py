"""Events that are left out so that nobody can fill a disk, and their count."""

from __future__ import annotations

from twisted.internet.task import Clock

from rqdisco.limits.event_sampler import EventSampler


def test_one_source_passes_ten_at_once_and_then_one_a_second() -> None:
    clock = Clock()
    sampler = EventSampler(clock.seconds)
    assert [sampler.sample("a", "") for _ in range(12)] == [0] * 10 + [None] * 2
    clock.advance(1)
    assert [sampler.sample("a", "") for _ in range(2)] == [2, None]


def test_ever_new_sources_pass_no_more_than_five_a_second_together() -> None:
    clock = Clock()
    sampler = EventSampler(clock.seconds)
    through = [sampler.sample(f"2001:db8::{number:x}", "") for number in range(1000)]
    assert through == [0] * 50 + [None] * 950
    clock.advance(10)
    through = [sampler.sample(f"2001:db8:1::{number:x}", "") for number in range(1000)]
    assert through == [950] + [0] * 49 + [None] * 950


def test_a_flood_without_a_token_hides_nobody_who_has_one() -> None:
    sampler = EventSampler(Clock().seconds)
    for number in range(1000):
        sampler.sample(f"10.0.0.{number}", "")
    assert sampler.sample("192.0.2.7", "ops") == 950


def test_a_flood_from_one_source_hides_no_other() -> None:
    sampler = EventSampler(Clock().seconds)
    for _ in range(1000):
        sampler.sample("10.0.0.1", "")
    assert sampler.sample("10.0.0.2", "") == 990
