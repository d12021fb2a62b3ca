"""Rolling upgrades, as docs/operations.md describes them: daemons of an older version are replaced by
those of this one while nodes register.

The older version is this code under another version. That both understand each other's files and
messages is what tests/unit/test_formats.py and tests/unit/test_peer_wire.py compare with golden ones.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from rqdisco import __version__
from tests.integration.conftest import Start
from tests.support.etcd.processes import arguments
from tests.support.etcd.real import RealEtcd, needs_etcd
from tests.support.process import PATIENCE, DaemonProcess, Environment, ask, install_wheel
from tests.support.trio import NAMES, Trio

pytestmark = pytest.mark.process

OLDER_VERSION = "1.0.0.dev0"
# systemd does this before it starts the program: the socket is descriptor 3, and meant for this
# process.
INHERIT = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid());"
    " os.execv(sys.argv[2], sys.argv[2:])"
)


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An installation of the older version."""
    return install_wheel(tmp_path_factory.mktemp("older"), OLDER_VERSION)


@pytest.fixture
def start_older(older: Environment) -> Iterator[Start]:
    """Starts daemons of the older version, as `start` does those of this one."""
    with ExitStack() as stack:

        def start_daemon(state: Path, *options: str) -> DaemonProcess:
            daemon = older.start(*older.twistd(state, *options))
            stack.callback(daemon.kill)
            return daemon

        yield start_daemon


class Nodes:
    """Nodes that register, each at the next of the `ports` that answers it, until the context is
    left. `told_alone` counts the answers that list the node alone, by ID.
    """

    def __init__(self, ports: Callable[[], Sequence[int]]) -> None:
        self._ports = ports
        self._is_over = threading.Event()
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run)
        self.registered: dict[str, list[str]] = {}
        self.told_alone: dict[str, int] = {}
        self.failures: list[str] = []

    def __enter__(self) -> Nodes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def wait_for_more(self) -> None:
        """Return once five more clusters have formed."""
        wanted = len(self.told_alone) + 5
        with self._news:
            assert self._news.wait_for(lambda: len(self.told_alone) >= wanted, PATIENCE)

    def _run(self) -> None:
        while not self._is_over.is_set():
            with self._news:
                self._news.notify_all()
            if (created := self._ask("POST", "/")) is None:
                continue
            discovery_id = str(created["disco_id"])
            self.registered[discovery_id] = []
            for number in range(3):
                addr = f"10.0.0.{number}:4001"
                answer = self._ask("POST", f"/{discovery_id}", {"addr": addr})
                if answer is not None:
                    self.registered[discovery_id].append(addr)
                    is_alone = answer["nodes"] == [addr]
                    self.told_alone[discovery_id] = self.told_alone.get(discovery_id, 0) + is_alone

    def _ask(self, method: str, path: str, document: object = None) -> Mapping[str, object] | None:
        """Return the first answer of 200 from any daemon, None if there is none."""
        for port in self._ports():
            with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
                try:
                    reply = ask(connection, method, path, document)
                except (OSError, HTTPException) as error:
                    self.failures.append(repr(error))
                    continue
            if reply.status == 200:
                answer: Mapping[str, object] = reply.document
                return answer
            self.failures.append(f"{reply.status} {reply.reason}")
        return None


def version_of(daemon: DaemonProcess) -> str:
    return str(json.loads(daemon.request("GET", "/").body)["version"])


def check(nodes: Nodes, daemons: Sequence[DaemonProcess]) -> None:
    """Check that all daemons run this version and have what was answered, and that no ID got two
    nodes that bootstrap.
    """
    assert {version_of(daemon) for daemon in daemons} == {__version__}
    assert len(nodes.registered) > 10
    for daemon in daemons:
        assert {each: sorted(daemon.nodes(each)) for each in nodes.registered} == {
            each: sorted(addrs) for each, addrs in nodes.registered.items()
        }
    assert {count for count in nodes.told_alone.values() if count > 1} == set()


def test_under_socket_activation_no_request_fails_while_the_daemon_is_replaced(
    older: Environment, installed: Environment, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listening, ExitStack() as stack:
        descriptor = listening.fileno()

        def start(environment: Environment) -> DaemonProcess:
            def run(command: Sequence[str], variables: Mapping[str, str]) -> DaemonProcess:
                inheriting = [sys.executable, "-c", INHERIT, str(descriptor), *command]
                return DaemonProcess(inheriting, variables, pass_fds=[descriptor])

            options = environment.twistd(tmp_path / "state", listen="systemd:domain=INET:name=http")
            daemon = environment.start(*options, run=run, LISTEN_FDS="1", LISTEN_FDNAMES="http")
            stack.callback(daemon.kill)
            return daemon

        daemon = start(older)
        assert version_of(daemon) == OLDER_VERSION
        with Nodes(lambda: [listening.getsockname()[1]]) as nodes:
            for environment in (installed, older, installed):
                nodes.wait_for_more()
                daemon.terminate()
                daemon = start(environment)
            nodes.wait_for_more()
        assert nodes.failures == []
        check(nodes, [daemon])
        assert set(nodes.told_alone.values()) == {1}


def test_peers_are_upgraded_one_at_a_time_and_nothing_that_was_answered_is_lost(
    start: Start, start_older: Start, tmp_path: Path
) -> None:
    upgraded: set[str] = set()

    def start_as_installed(name: str, state: Path, *options: str) -> DaemonProcess:
        return (start if name in upgraded else start_older)(state, *options)

    starts = {name: partial(start_as_installed, name) for name in NAMES}
    trio = Trio(start, tmp_path, "--client-rate=0", "--create-rate=0", starts=starts)
    assert {version_of(daemon) for daemon in trio.daemons.values()} == {OLDER_VERSION}
    with Nodes(lambda: [daemon.port for daemon in trio.daemons.values()]) as nodes:
        for name in NAMES:
            nodes.wait_for_more()
            trio.daemons.pop(name).terminate()
            upgraded.add(name)
            trio.start(name).wait_for("peers agree", count=3)
        nodes.wait_for_more()
    assert trio.complaints == []
    trio.restart_all()
    check(nodes, list(trio.daemons.values()))


@needs_etcd
def test_daemons_over_etcd_are_upgraded_in_any_order(
    older: Environment, installed: Environment, tmp_path: Path
) -> None:
    with closing(RealEtcd(tmp_path)) as etcd, ExitStack() as stack:

        def start(environment: Environment) -> DaemonProcess:
            daemon = environment.start(*arguments(etcd.endpoints, "--client-rate=0", "--create-rate=0"))
            stack.callback(daemon.kill)
            daemon.wait_for("etcd is in use")
            return daemon

        daemons = [start(older), start(older)]
        with Nodes(lambda: [daemon.port for daemon in daemons]) as nodes:
            for number in (1, 0):
                nodes.wait_for_more()
                daemons[number].terminate()
                daemons[number] = start(installed)
        check(nodes, daemons)
