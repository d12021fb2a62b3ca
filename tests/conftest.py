"""Checks that apply to every test."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from twisted.logger import LogLevel

from tests.support.backends import BACKENDS, over
from tests.support.logs import observed_by
from tests.support.workers import FailuresAtOnce, usable_processors, waiting_first, workers_for

TESTS = Path(__file__).parent

settings.register_profile(
    "ours", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("ours")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", metavar="DIRECTORY", help="have pictures of all pages made there")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # In the background of a shell, which the processes that tests interrupt would inherit.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and getattr(config.option, "numprocesses", None):

        def write_line(line: str) -> None:
            terminal.ensure_newline()
            terminal.write_line(line)

        config.pluginmanager.register(FailuresAtOnce(write_line))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of workers for `--numprocesses auto`."""
    named = [Path(config.invocation_params.dir, argument.partition("::")[0]) for argument in config.args]
    return workers_for([path for path in named if path != TESTS], TESTS, usable_processors())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = waiting_first(TESTS, [(item.path, item) for item in items])


@pytest.fixture(scope="module", autouse=True)
def settled_heap() -> None:
    """Exclude imported objects from garbage collection; scanning them after every test would take
    most of the time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def logged_errors() -> Iterator[list[dict[str, Any]]]:
    """Fail a test that leaves error events, unhandled failures or delayed calls; a test removes the
    events it expects.
    """
    from twisted.internet import reactor

    events: list[dict[str, Any]] = []
    before = set(reactor.getDelayedCalls())

    def observer(event: dict[str, Any]) -> None:
        if event.get("log_level") in (LogLevel.error, LogLevel.critical):
            events.append(event)

    with observed_by(observer):
        yield events
        gc.collect()
    assert not events
    assert not set(reactor.getDelayedCalls()) - before


@pytest.fixture
def log() -> Iterator[list[dict[str, Any]]]:
    """All log events of the test."""
    events: list[dict[str, Any]] = []
    with observed_by(events.append):
        yield events


@pytest.fixture(params=BACKENDS)
def each_backend(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run the test once over each backend; see `tests.support.backends`."""
    with over(request.param):
        yield
