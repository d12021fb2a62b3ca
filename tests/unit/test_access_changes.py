"""Token changes in the audit log when their file is reloaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from rqdisco.core.errors import TokensUnusable
from rqdisco.security.tokens import describe, with_token, without_token
from rqdisco.service.token_reload import ReloadingTokens
from rqdisco.telemetry.audit import AuditLog
from rqdisco.telemetry.audit_file import AuditFile
from rqdisco.telemetry.events import Event, Events
from tests.support.daemon import Threads

ID = "9af5306d-5842-851c-a00f-72fe57b0eb16"


class WatchedTokens:
    """A file of tokens, and a daemon that has read it; its events about them are recorded."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(b"")
        path.chmod(0o600)
        self.add("ops", "admin")
        self.add("orders", "read", "write", bound=ID)
        self.events: list[Event] = []
        self.tokens = ReloadingTokens(path)

    def add(self, name: str, *scopes: str, secret: str = "", bound: str | None = None) -> None:
        token = describe(name, scopes, secret or f"secret of {name}", bound)
        self.path.write_bytes(with_token(self.path.read_bytes(), token))

    def revoke(self, name: str) -> None:
        self.path.write_bytes(without_token(self.path.read_bytes(), name))

    def reload(self) -> list[tuple[str, str, Mapping[str, object]]]:
        """Reload the file; return the events: outcome, ID, and the rest."""
        self.events.clear()
        self.tokens.reload(Events(self.events.append))
        assert {event.kind for event in self.events} <= {"token"}
        return [(event.outcome, event.id, event.more) for event in self.events]


@pytest.fixture
def tokens(tmp_path: Path) -> WatchedTokens:
    return WatchedTokens(tmp_path / "tokens")


def test_a_new_token_is_recorded_with_its_name_scopes_and_id(tokens: WatchedTokens) -> None:
    tokens.add("billing", "write", "read", bound=ID)
    tokens.add("minter", "mint")
    assert tokens.reload() == [
        ("added", ID, {"name": "billing", "scopes": "read,write"}),
        ("added", "", {"name": "minter", "scopes": "mint"}),
    ]


def test_a_revoked_token_is_recorded_with_its_scopes(tokens: WatchedTokens) -> None:
    tokens.revoke("orders")
    assert tokens.reload() == [("revoked", ID, {"name": "orders", "scopes": "read,write"})]


def test_a_changed_token_is_recorded_with_the_differences(tokens: WatchedTokens) -> None:
    tokens.revoke("orders")
    tokens.add("orders", "read", "mint")
    tokens.revoke("ops")
    tokens.add("ops", "admin", secret="another")
    assert tokens.reload() == [
        ("changed", "", {"name": "orders", "scopes": "mint,read", "changed": "scopes,id"}),
        ("changed", "", {"name": "ops", "scopes": "admin", "changed": "secret"}),
    ]


def test_tokens_that_only_moved_in_the_file_are_not_recorded(tokens: WatchedTokens) -> None:
    first, *rest = tokens.path.read_bytes().splitlines(keepends=True)
    tokens.path.write_bytes(b"".join([*rest, b"# a comment\n", first]))
    assert tokens.reload() == []
    assert tokens.reload() == []


def test_each_change_is_recorded_once(tokens: WatchedTokens) -> None:
    tokens.add("minter", "mint")
    assert len(tokens.reload()) == 1
    assert tokens.reload() == []


def test_an_unusable_file_is_recorded_and_the_old_tokens_stay(
    tokens: WatchedTokens, logged_errors: list[dict[str, Any]]
) -> None:
    before = tokens.tokens.access.ring
    tokens.path.write_text("ops admin sEcReT\n")
    assert tokens.reload() == [("unusable", "", {})]
    assert tokens.events[0].why == f"{tokens.path}: line 1: the digest is not sha256: and 64 hexadecimal digits"
    assert tokens.tokens.access.ring is before
    tokens.path.unlink()
    assert [outcome for outcome, *_ in tokens.reload()] == ["unusable"]
    assert len(logged_errors) == 2
    logged_errors.clear()


def test_changes_after_an_unusable_file_are_recorded_against_the_tokens_in_effect(
    tokens: WatchedTokens, logged_errors: list[dict[str, Any]]
) -> None:
    whole = tokens.path.read_bytes()
    tokens.path.write_text("nonsense\n")
    tokens.reload()
    tokens.path.write_bytes(whole)
    tokens.revoke("ops")
    assert [outcome for outcome, *_ in tokens.reload()] == ["revoked"]
    logged_errors.clear()


def test_the_audit_log_has_neither_tokens_nor_digests(tokens: WatchedTokens, tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "audit"
    audit = AuditLog(clock, AuditFile(path), Threads(), lambda: 0, {})
    tokens.add("minter", "mint")
    tokens.tokens.reload(Events(audit))
    clock.advance(1)
    text = path.read_text()
    assert '"event":"token","outcome":"added","name":"minter","scopes":"mint"' in text
    for token in tokens.tokens.access.ring.tokens:
        assert token.digest.hex() not in text
        assert f"secret of {token.name}" not in text


def test_the_log_has_the_number_of_new_removed_and_changed_tokens(
    tokens: WatchedTokens, log: list[dict[str, Any]]
) -> None:
    tokens.add("minter", "mint")
    tokens.revoke("orders")
    tokens.reload()
    (line,) = [event for event in log if event["log_format"] == "tokens reloaded"]
    assert {name: line[name] for name in ("count", "added", "revoked", "changed")} == {
        "count": 2,
        "added": 1,
        "revoked": 1,
        "changed": 0,
    }


def test_a_daemon_does_not_start_with_an_unusable_file(tmp_path: Path) -> None:
    with pytest.raises(TokensUnusable):
        ReloadingTokens(tmp_path / "none")
