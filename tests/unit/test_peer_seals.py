"""Keys that peers share, and what a seal covers."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqdisco.backends.gossip.transport.keyring import BadKeys, PeerKey, parse_keys
from rqdisco.backends.gossip.transport.seals import (
    ReplayWindow,
    SealedSession,
    SealedSessions,
    answer_parts,
    hello_parts,
    request_parts,
)

SECRET = bytes(range(32))


def test_a_key_file_has_one_key_per_line_in_base64_or_hex_and_comments() -> None:
    content = b"# of March\n" + base64.b64encode(SECRET) + b"  # new\n\n" + SECRET[:16].hex().encode() + b"\n"
    ring = parse_keys(content)
    assert [key.secret for key in ring.keys] == [SECRET, SECRET[:16]]
    assert ring.signing.secret == SECRET
    assert ring.find(ring.keys[1].name) == ring.keys[1]
    assert ring.find("other") is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no key"),
        (b"# nothing\n", "no key"),
        (b"\nnot a key!\n", "line 2: neither"),
        (b"c2hvcnQ=\n", "line 1: a key of 5 bytes is too short"),
        (SECRET.hex().encode() + b"\n" + base64.b64encode(SECRET), "twice"),
        (b"\xff\xfe", "line 1: neither"),
    ],
)
def test_an_unusable_key_file_is_refused_with_a_reason_and_without_its_content(content: bytes, why: str) -> None:
    with pytest.raises(BadKeys, match=why) as caught:
        parse_keys(content)
    assert "not a key!" not in str(caught.value)


def test_the_name_of_a_key_identifies_it_and_reveals_nothing() -> None:
    one, other = (parse_keys(base64.b64encode(secret)).signing for secret in (SECRET, SECRET[::-1]))
    assert one.name != other.name
    assert one.name not in SECRET.hex()


@given(st.lists(st.binary(max_size=5), min_size=1, max_size=4), st.lists(st.binary(max_size=5), min_size=1, max_size=4))
def test_a_seal_is_valid_only_for_the_sealed_parts_however_they_are_split(one: list[bytes], other: list[bytes]) -> None:
    key = PeerKey("k", SECRET)
    assert key.is_sealed(key.seal(*one), *other) == (one == other)
    assert not PeerKey("k", SECRET[::-1]).is_sealed(key.seal(*one), *one)


def test_a_seal_is_for_one_kind_of_message_path_body_session_counter_and_status() -> None:
    seals = {
        hello_parts(b"/p", "n", b"b"),
        hello_parts(b"/p", "n", b"c"),
        hello_parts(b"/q", "n", b"b"),
        hello_parts(b"/p", "m", b"b"),
        request_parts(b"/p", "s", 1, b"b"),
        request_parts(b"/p", "s", 2, b"b"),
        request_parts(b"/p", "t", 1, b"b"),
        answer_parts("x", 200, b"b"),
        answer_parts("x", 403, b"b"),
        answer_parts("y", 200, b"b"),
    }
    assert len({PeerKey("k", SECRET).seal(*parts) for parts in seals}) == 10


def test_a_malformed_seal_is_wrong_and_no_error() -> None:
    assert not PeerKey("k", SECRET).is_sealed("ünï\ud800", b"x")


@given(st.permutations(range(1, 200)))
def test_each_message_is_accepted_once_in_any_order(order: list[int]) -> None:
    window = ReplayWindow()
    assert all(window.accept(number) for number in order)
    assert not any(window.accept(number) for number in order)


def test_a_message_that_is_far_behind_is_refused() -> None:
    window = ReplayWindow()
    assert all(window.accept(number) for number in range(1, 5000, 2))
    assert not window.accept(2)
    assert window.accept(4998)
    assert not window.accept(0)
    assert not window.accept(-1)


def test_unused_sessions_are_evicted_before_those_in_use() -> None:
    sessions = SealedSessions()
    sessions.add("used", SealedSession(PeerKey("k", SECRET)))
    sessions.mark_used("used")
    for number in range(1000):
        sessions.add(str(number), SealedSession(PeerKey("k", SECRET)))
    assert sessions.find("used") is not None
    assert sessions.find("0") is None
    assert sessions.find("999") is not None


def test_a_session_ends_with_the_key_it_was_begun_with() -> None:
    sessions = SealedSessions()
    sessions.add("one", SealedSession(PeerKey("k", SECRET)))
    sessions.add("other", SealedSession(PeerKey("l", SECRET)))
    sessions.keep_only({"l"})
    assert sessions.find("one") is None
    assert sessions.find("other") is not None
