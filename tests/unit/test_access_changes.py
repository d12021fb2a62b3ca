"""What an audit log says of tokens when their file is read again."""

from __future__ import annotations

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


class Kept:
    """A file of tokens, and a daemon that has read it; what it tells of them is kept."""

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

    def reload(self) -> list[tuple[str, str, dict[str, Any]]]:
        """What is told when it is read again: outcome, the ID it is about, and the rest."""
        self.events.clear()
        self.tokens.reload(Events(self.events.append))
        assert {event.kind for event in self.events} <= {"token"}
        return [(event.outcome, event.id, event.more) for event in self.events]


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "tokens")


def test_a_new_token_is_told_by_its_name_its_scopes_and_its_id(kept: Kept) -> None:
    kept.add("billing", "write", "read", bound=ID)
    kept.add("minter", "mint")
    assert kept.reload() == [
        ("added", ID, {"name": "billing", "scopes": "read,write"}),
        ("added", "", {"name": "minter", "scopes": "mint"}),
    ]


def test_a_revoked_token_is_told_with_what_it_could_do(kept: Kept) -> None:
    kept.revoke("orders")
    assert kept.reload() == [("revoked", ID, {"name": "orders", "scopes": "read,write"})]


def test_a_changed_token_is_told_with_what_is_different(kept: Kept) -> None:
    kept.revoke("orders")
    kept.add("orders", "read", "mint")
    kept.revoke("ops")
    kept.add("ops", "admin", secret="another")
    assert kept.reload() == [
        ("changed", "", {"name": "orders", "scopes": "mint,read", "changed": "scopes,id"}),
        ("changed", "", {"name": "ops", "scopes": "admin", "changed": "secret"}),
    ]


def test_tokens_that_only_stand_elsewhere_in_the_file_are_not_told(kept: Kept) -> None:
    first, *rest = kept.path.read_bytes().splitlines(keepends=True)
    kept.path.write_bytes(b"".join([*rest, b"# a comment\n", first]))
    assert kept.reload() == []
    assert kept.reload() == []


def test_each_change_is_told_once(kept: Kept) -> None:
    kept.add("minter", "mint")
    assert len(kept.reload()) == 1
    assert kept.reload() == []


def test_a_file_that_cannot_be_used_is_told_and_the_old_tokens_stay(
    kept: Kept, logged_errors: list[dict[str, Any]]
) -> None:
    before = kept.tokens.access.ring
    kept.path.write_text("ops admin sEcReT\n")
    assert kept.reload() == [("unusable", "", {})]
    assert kept.events[0].why == f"{kept.path}: line 1: the digest is not sha256: and 64 hexadecimal digits"
    assert kept.tokens.access.ring is before
    kept.path.unlink()
    assert [outcome for outcome, *_ in kept.reload()] == ["unusable"]
    assert len(logged_errors) == 2
    logged_errors.clear()


def test_after_a_file_that_could_not_be_used_changes_are_told_against_the_tokens_that_count(
    kept: Kept, logged_errors: list[dict[str, Any]]
) -> None:
    whole = kept.path.read_bytes()
    kept.path.write_text("nonsense\n")
    kept.reload()
    kept.path.write_bytes(whole)
    kept.revoke("ops")
    assert [outcome for outcome, *_ in kept.reload()] == ["revoked"]
    logged_errors.clear()


def test_nothing_of_a_token_or_of_its_digest_is_in_the_audit_log(kept: Kept, tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "audit"
    audit = AuditLog(clock, AuditFile(path), Threads(), lambda: 0, {})
    kept.add("minter", "mint")
    kept.tokens.reload(Events(audit))
    clock.advance(1)
    text = path.read_text()
    assert '"event":"token","outcome":"added","name":"minter","scopes":"mint"' in text
    for token in kept.tokens.access.ring.tokens:
        assert token.digest.hex() not in text
        assert f"secret of {token.name}" not in text


def test_the_log_says_how_many_tokens_are_new_gone_and_different(kept: Kept, log: list[dict[str, Any]]) -> None:
    kept.add("minter", "mint")
    kept.revoke("orders")
    kept.reload()
    (line,) = [event for event in log if event["log_format"] == "tokens reloaded"]
    assert {name: line[name] for name in ("count", "added", "revoked", "changed")} == {
        "count": 2,
        "added": 1,
        "revoked": 1,
        "changed": 0,
    }


def test_a_daemon_does_not_start_on_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(TokensUnusable):
        ReloadingTokens(tmp_path / "none")
