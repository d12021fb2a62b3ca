"""The history of answers: which node was answered what."""

from __future__ import annotations

import itertools

import pytest

from rqdisco.telemetry import answer_history
from rqdisco.telemetry.answer_history import MOST_ANSWERS, AnswerHistory, PastAnswer

A, B = "10.0.0.1:4001", "10.0.0.2:4001"


def test_an_address_is_known_since_it_was_first_answered_until_it_is_removed() -> None:
    log = AnswerHistory(itertools.count(1).__next__)
    for addr in (A, B, A):
        log.note("id", addr, "listed", 1)
    assert log.first("id", [A, B]) == {A: 1, B: 2}
    log.forget("id", A)
    log.note("id", A, "listed", 1)
    assert log.first("id", [A, B]) == {A: 4, B: 2}
    assert log.first("other", [A]) == {}


def test_an_address_that_left_the_list_counts_as_another_node_when_it_returns() -> None:
    log = AnswerHistory(itertools.count(1).__next__)
    log.note("id", A, "listed", 1)
    assert log.first("id", []) == {}
    log.note("id", A, "listed", 1)
    assert log.first("id", [A]) == {A: 2}


def test_the_history_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_history, "_MOST_BYTES", 600)
    log = AnswerHistory(itertools.count(1).__next__)
    for discovery_id in range(5):
        for number in range(5):
            log.note(str(discovery_id), f"10.0.0.{number}:1", "listed", 1)
    assert [len(log.of(str(discovery_id))) for discovery_id in range(5)] == [0, 0, 5, 5, 5]


def test_forgotten_answers_of_one_id_make_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_history, "_MOST_BYTES", 3000)
    log = AnswerHistory(itertools.count(1).__next__)
    addrs = [f"10.0.0.{number}:1" for number in range(5)]
    for _ in range(100):
        for addr in addrs:
            log.note("id", addr, "listed", 1)
        log.forget("id", addrs[0])
        log.first("id", addrs[:3])
    for addr in addrs:
        log.note("other", addr, "listed", 1)
    assert len(log.of("id")) == MOST_ANSWERS
    assert len(log.of("other")) == 5


def test_addresses_that_come_and_go_under_one_id_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_history, "_MOST_ADDRESSES_OF_ONE", 10)
    log = AnswerHistory(itertools.count(1).__next__)
    addrs = [f"10.0.0.{number}:1" for number in range(30)]
    for addr in addrs:
        log.note("id", addr, "listed", 1)
    assert log.first("id", addrs) == {addr: number for number, addr in enumerate(addrs, 1) if number > 20}


def test_the_last_answers_of_an_id_are_returned_as_they_were_given() -> None:
    log = AnswerHistory(itertools.count(1).__next__)
    for number in range(MOST_ANSWERS + 7):
        log.note("id", "http://knoten-ä.example:4001", "listed on the owner's behalf", number)
    assert log.of("other") == ()
    assert log.of("id") == tuple(
        PastAnswer(
            at=number + 1, addr="http://knoten-ä.example:4001", what="listed on the owner's behalf", listed=number
        )
        for number in range(7, MOST_ANSWERS + 7)
    )
