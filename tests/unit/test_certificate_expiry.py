"""The log warns of certificates before they expire, and once they have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from rqdisco.security.certificate_expiry import CertificateExpiryMonitor
from rqdisco.security.certificates import Certificates, Files
from tests.support.certificates import Authority

DAY = 86400.0
SOON, ENDED = "certificate expires soon", "certificate has expired"


class Watched:
    """A daemon's certificates by where they are used, on a wall clock that goes along with the
    test's.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority()
        self.clock = Clock()
        self.certificates = Certificates(self.clock.seconds)
        # A minute later than now, so that no number of days begins within a part of a second.
        began = datetime.now(UTC).timestamp() + 60
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


class Said:
    """Return the log lines about expiring certificates since the last call."""

    def __init__(self, log: list[dict[str, Any]]) -> None:
        self._log = log

    def __call__(self) -> list[tuple[str, str, int | None]]:
        said = [
            (event["log_format"], event["where"], event.get("days"))
            for event in self._log
            if event["log_format"] in (SOON, ENDED)
        ]
        self._log.clear()
        return said


@pytest.fixture
def said(log: list[dict[str, Any]]) -> Said:
    return Said(log)


def test_a_certificate_that_ends_within_14_days_is_said_at_the_start_and_once_a_day(
    watched: Watched, said: Said
) -> None:
    watched.certificates.for_listener("tls:4000", watched.write("a", days=3))
    watched.certificates.for_clients("peers", watched.write("b", days=13))
    watched.certificates.for_listener("tls:5000", watched.write("c", days=30))
    watched.renewals.startService()
    assert said() == [(SOON, "tls:4000", 2), (SOON, "peers", 12)]
    watched.clock.pump([DAY / 4] * 3)
    assert said() == []
    watched.clock.advance(DAY / 4)
    assert said() == [(SOON, "tls:4000", 1), (SOON, "peers", 11)]


def test_a_certificate_is_said_from_the_day_on_that_14_are_left(watched: Watched, said: Said) -> None:
    watched.certificates.for_listener("tls:4000", watched.write("a", days=16))
    watched.renewals.startService()
    for _ in range(2):
        assert said() == []
        watched.clock.advance(DAY)
    assert said() == [(SOON, "tls:4000", 13)]


def test_the_end_itself_is_an_error_at_once_and_each_day(
    watched: Watched, said: Said, logged_errors: list[dict[str, Any]]
) -> None:
    watched.certificates.for_listener("tls:4000", watched.write("a", days=2))
    watched.clock.advance(DAY / 4)
    watched.renewals.startService()
    watched.clock.pump([3600.0] * 41)
    assert [what for what, *_ in said()] == [SOON, SOON]
    watched.clock.advance(3600)
    assert said() == [(ENDED, "tls:4000", None)]
    watched.clock.advance(DAY)
    assert said() == [(ENDED, "tls:4000", None)]
    assert [event["where"] for event in logged_errors] == ["tls:4000"] * 2
    logged_errors.clear()


def test_a_renewed_certificate_is_not_said_any_more(watched: Watched, said: Said) -> None:
    watched.certificates.for_listener("tls:4000", watched.write("a", days=3))
    watched.renewals.startService()
    said()
    watched.write("a", days=90)
    watched.certificates.reload()
    watched.clock.advance(DAY)
    assert said() == []


def test_a_certificate_that_was_read_again_and_ends_soon_is_said_at_once(watched: Watched, said: Said) -> None:
    for where in ("tls:4000", "tls:5000"):
        watched.certificates.for_listener(where, watched.write(where[-4:], days=90))
    watched.renewals.startService()
    for where in ("tls:4000", "tls:5000"):
        watched.write(where[-4:], days=5)
    watched.certificates.reload()
    watched.clock.advance(0)
    assert said() == [(SOON, "tls:4000", 4), (SOON, "tls:5000", 4)]
    watched.clock.advance(0)
    assert said() == []


def test_a_file_that_changed_by_itself_is_said_as_soon_as_anybody_connects(watched: Watched, said: Said) -> None:
    kept = watched.certificates.for_listener("tls:4000", watched.write("a", days=90))
    watched.renewals.startService()
    watched.write("a", days=5)
    watched.clock.advance(2)
    kept.get()
    watched.clock.advance(0)
    assert said() == [(SOON, "tls:4000", 4)]


def test_where_there_is_no_certificate_nothing_is_said(watched: Watched, said: Said) -> None:
    watched.certificates.for_clients("peers", Files())
    watched.renewals.startService()
    watched.clock.advance(DAY)
    assert said() == []


def test_a_pipe_in_place_of_a_certificate_does_not_stop_the_daemon(
    watched: Watched, logged_errors: list[dict[str, Any]]
) -> None:
    files = watched.write("a", days=30)
    certificates = watched.certificates.for_listener("tls:4000", files)
    before = certificates.get()
    assert files.certificate is not None
    files.certificate.unlink()
    os.mkfifo(files.certificate)
    watched.clock.advance(1)
    assert certificates.get() is before
    assert logged_errors[0]["why"] == f"{files.certificate}: not a regular file"
    logged_errors.clear()
