"""Tokens of the client of etcd: fetched, renewed, and shared by all requests."""

from __future__ import annotations

import pytest

from rqdisco.backends.etcd.auth import Credentials
from rqdisco.backends.etcd.client import ClientConfig, EtcdClient
from rqdisco.backends.etcd.failures import AuthFailed, NotApplied
from rqdisco.http_client.interfaces import ConnectionBroken, PostReply
from tests.support.logs import observed_by
from tests.support.played_etcd import (
    DENIED,
    E1,
    INVALID_TOKEN,
    NO_AUTH,
    NO_USER,
    OLD_AUTH,
    PASSWORD,
    READ,
    WRITE,
    WRITTEN,
    WRONG_PASSWORD,
    Asked,
    Played,
    grant,
)


@pytest.fixture
def guarded() -> Played:
    """etcd with authentication."""
    return Played(E1, password=PASSWORD)


def test_the_first_request_fetches_a_token_and_all_have_it(guarded: Played) -> None:
    asked = [Asked(guarded.client.range(READ)), Asked(guarded.client.txn(WRITE))]
    assert len(guarded.sent) == 1
    grant(guarded, "abc.1")
    assert [(post.path, post.token) for post in guarded.sent[1:]] == [
        ("/v3/kv/range", "abc.1"),
        ("/v3/kv/txn", "abc.1"),
    ]
    guarded.sent[1].answer()
    guarded.sent[2].answer(**WRITTEN)
    assert all(each.outcomes for each in asked)


@pytest.mark.parametrize("refusal", [INVALID_TOKEN, NO_USER, OLD_AUTH])
def test_a_token_that_etcd_does_not_take_any_more_is_replaced_and_the_request_repeated(
    guarded: Played, refusal: tuple[int, str]
) -> None:
    asked = Asked(guarded.client.txn(WRITE))
    grant(guarded, "abc.1")
    guarded.password = "changed"
    guarded.last.refuse(refusal)
    grant(guarded, "abc.2")
    assert guarded.last.token == "abc.2"
    guarded.last.answer(**WRITTEN)
    assert asked.result.succeeded
    assert guarded.counts.renewals == 2


def test_a_user_given_before_authentication_was_switched_on_logs_in_afterwards(guarded: Played) -> None:
    Asked(guarded.client.range(READ))
    guarded.last.refuse(NO_AUTH)
    assert guarded.last.token is None
    guarded.last.answer()
    asked = Asked(guarded.client.txn(WRITE))
    # As etcd answers over https, where its gateway has a certificate.
    guarded.last.refuse(DENIED)
    grant(guarded, "abc.1")
    guarded.last.answer(**WRITTEN)
    assert asked.result.succeeded


def test_a_late_refusal_of_an_older_token_fetches_no_other_one(guarded: Played) -> None:
    Asked(guarded.client.range(READ))
    grant(guarded, "abc.1")
    first = guarded.last
    Asked(guarded.client.range(READ))
    guarded.last.refuse(INVALID_TOKEN)
    grant(guarded, "abc.2")
    first.refuse(INVALID_TOKEN)
    assert (guarded.last.path, guarded.last.token) == ("/v3/kv/range", "abc.2")


def test_a_wrong_password_is_named_and_etcd_not_asked_about_it_by_each_request(guarded: Played) -> None:
    asked = Asked(guarded.client.txn(WRITE))
    guarded.last.refuse(WRONG_PASSWORD)
    again = Asked(guarded.client.txn(WRITE))
    for each in (asked, again):
        assert each.failure == (AuthFailed, "etcd refused the user name or the password")
    assert len(guarded.sent) == 1
    guarded.clock.advance(3)
    Asked(guarded.client.range(READ))
    assert len(guarded.sent) == 2


def test_a_password_file_that_cannot_be_read_is_named() -> None:
    def read() -> Credentials:
        raise PermissionError(13, "Permission denied", "/etc/rqdisco/password")

    etcd = Played(E1)
    config = ClientConfig((E1,), read)
    client = EtcdClient(config, etcd, etcd, etcd.clock, etcd.guard, etcd.counts)
    asked = Asked(client.range(READ))
    assert asked.failure == (AuthFailed, "the password file cannot be read: Permission denied")


def test_credentials_do_no_harm_while_etcd_has_authentication_switched_off(guarded: Played) -> None:
    asked = Asked(guarded.client.range(READ))
    guarded.last.refuse(NO_AUTH)
    assert (guarded.last.path, guarded.last.token) == ("/v3/kv/range", None)
    guarded.last.answer()
    assert asked.outcomes
    Asked(guarded.client.range(READ))
    guarded.last.refuse(NO_USER)
    grant(guarded, "abc.1")
    assert guarded.last.token == "abc.1"


def test_a_transaction_that_waited_for_its_token_in_vain_was_not_applied(guarded: Played) -> None:
    asked = Asked(guarded.client.txn(WRITE, 2.0))
    while not asked.outcomes:
        guarded.last.fail(ConnectionBroken("no answer within 1 s"))
        guarded.wait()
    assert asked.failure[0] is NotApplied


def test_a_caller_that_gives_up_does_not_take_the_token_from_others(guarded: Played) -> None:
    given_up = Asked(guarded.client.range(READ))
    Asked(guarded.client.range(READ))
    given_up.deferred.cancel()
    grant(guarded, "abc.1")
    assert [post.token for post in guarded.sent] == [None, "abc.1"]


def test_no_request_waits_longer_for_a_token_than_it_has_time(guarded: Played) -> None:
    asked = Asked(guarded.client.range(READ, 0.5))
    guarded.wait()
    assert asked.failure == (NotApplied, f"no etcd endpoint answers ({E1}: no token in time)")


def test_neither_the_password_nor_the_token_is_in_any_text(guarded: Played) -> None:
    texts: list[str] = []
    with observed_by(lambda event: texts.append(str(event))):
        asked = Asked(guarded.client.range(READ, 1.0))
        guarded.last.answered.callback(PostReply(200, b'{"header":{},"token":"abc\\r\\n1"}'))
        guarded.wait()
        guarded.last.answered.callback(PostReply(200, b'{"header":{},"token":"abc.1'))
        guarded.wait()
    texts += [repr(Credentials("rqdisco", PASSWORD)), str(asked.result), repr(asked.result), repr(guarded.client)]
    assert not [text for text in texts if PASSWORD in text or "abc" in text]
