"""One installation for all tests here, and daemons that do not outlive the test that started
them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.process import DaemonProcess, Environment, Run, install_wheel
from tests.support.workers import once_for_all_workers

Start = Callable[..., DaemonProcess]


@pytest.fixture(scope="session", name="installed")
def installed_environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A separate environment with the project installed from a wheel, once for all workers."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return install_wheel(tmp_path_factory.mktemp("installed"))
    return once_for_all_workers(tmp_path_factory.getbasetemp().parent / "installed", install_wheel)


@pytest.fixture(name="start")
def start_daemons(installed: Environment) -> Iterator[Start]:
    """Starts daemons as `start(state, *options)`; those still running after the test are killed."""
    with ExitStack() as stack:

        def start_daemon(state: Path, *options: str, run: Run = DaemonProcess, **environment: str) -> DaemonProcess:
            daemon = installed.start(*installed.twistd(state, *options), run=run, **environment)
            stack.callback(daemon.kill)
            return daemon

        yield start_daemon


@pytest.fixture(scope="module")
def shared_daemon(installed: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One daemon for all tests of a module."""
    daemon = installed.start(*installed.twistd(tmp_path_factory.mktemp("shared") / "state"))
    yield daemon
    daemon.kill()


@pytest.fixture
def daemon(shared_daemon: DaemonProcess) -> Iterator[DaemonProcess]:
    """The module's daemon, which must be well after the test too."""
    yield shared_daemon
    assert shared_daemon.request("GET", "/").status == 200
    assert shared_daemon.complaints == []
    assert shared_daemon.stderr == ""
