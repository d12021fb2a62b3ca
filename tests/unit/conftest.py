"""Fixtures of tests of commands, and of several daemons."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock

from tests.support.command import RAFT_A, A, B, Service, Shell
from tests.support.daemon import create_id
from tests.support.gossip import Three, settle, trio


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove settings of the environment that runs the tests."""
    for name in ("URL", "TOKEN", "TOKENS", "CA", "CERT", "KEY"):
        monkeypatch.delenv(f"RQDISCO_{name}", raising=False)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def service(each_backend: None) -> Service:
    """A service over either backend."""
    return Service()


@pytest.fixture
def shell(service: Service) -> Shell:
    return Shell(service)


@pytest.fixture
def some_id(service: Service) -> str:
    """An ID with two nodes, of which the first has all details."""
    discovery_id = create_id(service.daemon)
    shell = Shell(service)
    assert shell("register", discovery_id, A, "--raft-addr", RAFT_A, "--node-id", "n1") == 0
    assert shell("register", discovery_id, B) == 0
    return discovery_id


@pytest.fixture
def clock() -> Clock:
    """The clock of all daemons."""
    return Clock()


@pytest.fixture
def three(clock: Clock) -> Iterator[Three]:
    """Three daemons that have met each other."""
    network, daemons = trio(clock)
    yield network, daemons
    for daemon in network.daemons.values():
        daemon.stop()
    settle(clock, 1)
