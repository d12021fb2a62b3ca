"""What is remembered of who was told what."""

from __future__ import annotations

import itertools

import pytest

from rqdisco.observability import told
from rqdisco.observability.told import ToldLog

A, B = "10.0.0.1:4001", "10.0.0.2:4001"


def test_an_address_is_known_since_it_was_first_answered_until_it_is_removed() -> None:
    log = ToldLog(itertools.count(1).__next__)
    for addr in (A, B, A):
        log.note("id", addr, "listed", 1)
    assert log.first("id", [A, B]) == {A: 1, B: 2}
    log.forget("id", A)
    log.note("id", A, "listed", 1)
    assert log.first("id", [A, B]) == {A: 4, B: 2}
    assert log.first("other", [A]) == {}


def test_an_address_that_is_not_listed_any_more_is_another_node_when_it_comes_back() -> None:
    log = ToldLog(itertools.count(1).__next__)
    log.note("id", A, "listed", 1)
    assert log.first("id", []) == {}
    log.note("id", A, "listed", 1)
    assert log.first("id", [A]) == {A: 2}


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told, "_MOST_ADDRESSES", 10)
    log = ToldLog(itertools.count(1).__next__)
    for discovery_id in range(5):
        for number in range(5):
            log.note(str(discovery_id), f"10.0.0.{number}:1", "listed", 1)
    assert [len(log.of(str(discovery_id))) for discovery_id in range(5)] == [0, 0, 0, 5, 5]
