"""The token file of a running daemon is read again when it changes, without a signal."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from rqdisco.core.errors import NotAuthenticated
from rqdisco.security.token_file import edit_tokens
from rqdisco.security.tokens import Access, describe, with_token, without_token
from rqdisco.service.token_reload import ReloadingTokens, TokenFileMonitor
from rqdisco.telemetry.events import Event, Events
from tests.support.logs import observed_by


class Watched:
    """A daemon's tokens and their monitor, on a clock that the test moves."""

    def __init__(self, path: Path, add: Callable[[str], None]) -> None:
        self.path, self.add = path, add
        add("first")
        self.published: list[Event] = []
        self.clock = Clock()
        self.tokens = ReloadingTokens(path)
        self.monitor = TokenFileMonitor(self.clock, self.tokens, Events(self.published.append))
        self.monitor.startService()

    def admits(self, name: str) -> bool:
        access: Access = self.tokens.access
        try:
            access.admit([name.encode()], "read")
        except NotAuthenticated:
            return False
        return True

    def wait(self, seconds: int = 2) -> list[str]:
        """Let time pass; return the events that were logged."""
        seen: list[dict[str, Any]] = []
        with observed_by(seen.append):
            for _ in range(seconds):
                self.clock.advance(1)
        return [event["log_format"] for event in seen]


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    path = tmp_path / "tokens"

    def add(name: str) -> None:
        edit_tokens(path, lambda content: with_token(content, describe(name, ["read"], name)))

    return Watched(path, add)


def test_a_new_token_is_valid_and_a_revoked_one_is_not_within_two_seconds(watched: Watched) -> None:
    assert (watched.admits("first"), watched.admits("second")) == (True, False)
    watched.add("second")
    assert watched.wait() == ["tokens reloaded"]
    assert (watched.admits("first"), watched.admits("second")) == (True, True)
    edit_tokens(watched.path, lambda content: without_token(content, "first"))
    assert watched.wait() == ["tokens reloaded"]
    assert (watched.admits("first"), watched.admits("second")) == (False, True)
    assert [event.outcome for event in watched.published] == ["added", "revoked"]


def test_a_file_at_rest_is_not_read_again(watched: Watched) -> None:
    assert watched.wait(3600) == []


@pytest.mark.parametrize("spoil", [lambda path: path.write_text("nonsense\n"), Path.unlink])
def test_a_broken_file_keeps_the_old_tokens_and_is_logged_once(
    watched: Watched, spoil: Callable[[Path], object], logged_errors: list[dict[str, Any]]
) -> None:
    content = watched.path.read_bytes()
    spoil(watched.path)
    assert watched.wait(60) == ["tokens not reloaded, the old ones stay in use: {why}"]
    (error,) = logged_errors
    assert str(watched.path) in error["why"]
    logged_errors.clear()
    assert watched.admits("first")
    watched.path.write_bytes(content)
    watched.path.chmod(0o600)
    assert watched.wait() == ["tokens reloaded"]
    assert watched.admits("first")


def test_a_pipe_in_place_of_the_file_does_not_stop_the_daemon(
    watched: Watched, logged_errors: list[dict[str, Any]]
) -> None:
    watched.path.unlink()
    os.mkfifo(watched.path)
    assert watched.wait() == ["tokens not reloaded, the old ones stay in use: {why}"]
    assert f"{watched.path}: not a regular file" in logged_errors[0]["why"]
    logged_errors.clear()
    assert watched.admits("first")


def test_a_file_that_is_being_written_is_not_read_before_it_is_at_rest(watched: Watched) -> None:
    content = watched.path.read_bytes()
    watched.path.write_bytes(b"")
    assert watched.wait(1) == []
    watched.path.write_bytes(content)
    # So that the change shows however coarse the clock of the file system is.
    os.utime(watched.path, (1, 1))
    assert watched.wait(1) == []
    assert watched.admits("first")
    assert watched.wait(1) == ["tokens reloaded"]
    assert watched.admits("first")


def test_a_revocation_is_seen_though_the_file_has_its_old_size_and_time(watched: Watched) -> None:
    before = watched.path.stat()
    other = with_token(without_token(watched.path.read_bytes(), "first"), describe("other", ["read"], "other"))
    # The clock of a file system is coarse.
    while watched.path.stat().st_ctime_ns == before.st_ctime_ns:
        watched.path.write_bytes(other)
    os.utime(watched.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert watched.wait() == ["tokens reloaded"]
    assert (watched.admits("first"), watched.admits("other")) == (False, True)


def test_a_reload_by_a_signal_is_not_repeated(watched: Watched) -> None:
    watched.add("second")
    watched.tokens.reload(Events(watched.published.append))
    assert watched.admits("second")
    assert watched.wait() == []


def test_nothing_is_read_after_the_stop(watched: Watched) -> None:
    watched.monitor.stopService()
    watched.add("second")
    assert watched.wait() == []
    assert watched.clock.getDelayedCalls() == []
