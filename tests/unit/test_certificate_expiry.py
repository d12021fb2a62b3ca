"""Certificates in the log before they expire, and afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from rqdisco.security.certificate_expiry import CertificateExpiryMonitor
from rqdisco.security.certificates import Certificates, Files
from tests.support.certificates import Authority

DAY = 86400.0
SOON, ENDED = "certificate ends soon", "certificate has ended"


class Watched:
    """A daemon's certificates by where they are used, on a wall clock that advances with the
    test's.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority()
        self.clock = Clock()
        self.certificates = Certificates(self.clock.seconds)
        # A minute later than now, so that no number of days begins within a part of a second.
        began = datetime.now(timezone.utc).timestamp() + 60
        self.renewals = CertificateExpiryMonitor(self.clock, self.certificates, lambda: began + self.clock.seconds())

    def write(self, name: str, days: int) -> Files:
        key, certificate = self.authority.write(self.directory, name, ["h"], days)
        return Files(key=key, certificate=certificate)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path)
    yield watched
    if watched.renewals.running:
        watched.renewals.stopService()
    assert not watched.clock.getDelayedCalls()


class LoggedExpiries:
    """The logged expiries of certificates since the last call."""

    def __init__(self, log: list[dict[str, Any]]) -> None:
        self._log = log

    def __call__(self) -> list[tuple[str, str, int | None]]:
        logged = [
            (event["log_format"], event["where"], event.get("days"))
            for event in self._log
            if event["log_format"] in (SOON, ENDED)
        ]
        self._log.clear()
        return logged


@pytest.fixture
def logged(log: list[dict[str, Any]]) -> LoggedExpiries:
    return LoggedExpiries(log)


def test_a_certificate_that_expires_within_14_days_is_logged_at_the_start_and_once_a_day(
    watched: Watched, logged: LoggedExpiries
) -> None:
    watched.certificates.for_listener("tls:4000", watched.write("a", days=3))
    watched.certificates.for_clients("peers", watched.write("b", days=13))
    watched.certificates.for_listener("tls:5000", watched.write("c", days=30))
    watched.renewals.startService()
    assert logged() == [(SOON, "tls:4000", 2), (SOON, "peers", 12)]
    watched.clock.pump([DAY / 4] * 3)
    assert logged() == []
    watched.clock.advance(DAY / 4)
    assert logged() == [(SOON, "tls:4000", 1), (SOON, "peers", 11)]


def test_a_certificate_is_logged_from_the_day_on_that_14_are_left(watched: Watched, logged: LoggedExpiries) -> None:
    watched.certificates.for_listener("tls:4000", watched.write("a", days=16))
    watched.renewals.startService()
    for _ in range(2):
        assert logged() == []
        watched.clock.advance(DAY)
    assert logged() == [(SOON, "tls:4000", 13)]


def test_an_expired_certificate_is_an_error_at_once_and_each_day(
    watched: Watched, logged: LoggedExpiries, logged_errors: list[dict[str, Any]]
) -> None:
    watched.certificates.for_listener("tls:4000", watched.write("a", days=2))
    watched.clock.advance(DAY / 4)
    watched.renewals.startService()
    watched.clock.pump([3600.0] * 41)
    assert [what for what, *_ in logged()] == [SOON, SOON]
    watched.clock.advance(3600)
    assert logged() == [(ENDED, "tls:4000", None)]
    watched.clock.advance(DAY)
    assert logged() == [(ENDED, "tls:4000", None)]
    assert [event["where"] for event in logged_errors] == ["tls:4000"] * 2
    logged_errors.clear()


def test_a_renewed_certificate_is_no_longer_logged(watched: Watched, logged: LoggedExpiries) -> None:
    watched.certificates.for_listener("tls:4000", watched.write("a", days=3))
    watched.renewals.startService()
    logged()
    watched.write("a", days=90)
    watched.certificates.reread()
    watched.clock.advance(DAY)
    assert logged() == []


def test_a_reloaded_certificate_that_expires_soon_is_logged_at_once(watched: Watched, logged: LoggedExpiries) -> None:
    for where in ("tls:4000", "tls:5000"):
        watched.certificates.for_listener(where, watched.write(where[-4:], days=90))
    watched.renewals.startService()
    for where in ("tls:4000", "tls:5000"):
        watched.write(where[-4:], days=5)
    watched.certificates.reread()
    watched.clock.advance(0)
    assert logged() == [(SOON, "tls:4000", 4), (SOON, "tls:5000", 4)]
    watched.clock.advance(0)
    assert logged() == []


def test_a_certificate_file_that_changed_is_logged_at_the_next_connection(
    watched: Watched, logged: LoggedExpiries
) -> None:
    kept = watched.certificates.for_listener("tls:4000", watched.write("a", days=90))
    watched.renewals.startService()
    watched.write("a", days=5)
    watched.clock.advance(2)
    kept.get()
    watched.clock.advance(0)
    assert logged() == [(SOON, "tls:4000", 4)]


def test_nothing_is_logged_without_certificates(watched: Watched, logged: LoggedExpiries) -> None:
    watched.certificates.for_clients("peers", Files())
    watched.renewals.startService()
    watched.clock.advance(DAY)
    assert logged() == []
