"""The units under deploy/systemd, and the communication between the daemon and systemd."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from configparser import RawConfigParser
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from rqdisco.service.options import DaemonOptions

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="systemd runs on Linux alone"),
]

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "deploy" / "systemd"
PATIENCE = 30.0
FROM_SYSTEMD = ("LISTEN_", "NOTIFY_SOCKET", "RQDISCO_", "STATE_DIRECTORY", "WATCHDOG_")
TWISTD = "from twisted.scripts.twistd import run; run()"
# systemd does this before it starts the program: the socket is descriptor 3, and meant for this
# process.
INHERIT = "import os, sys; os.dup2(int(sys.argv.pop(1)), 3); os.environ['LISTEN_PID'] = str(os.getpid()); "


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")


def setting(unit: str, section: str, name: str) -> str:
    """Return the value of a setting in a unit; of several, the last."""
    parser = RawConfigParser(strict=False)
    parser.read(UNITS / unit)
    return parser.get(section, name)


def command_line(program: str = TWISTD, *arguments: str) -> list[str]:
    """Return the service's command line, with this interpreter in place of the administrator's."""
    return [
        sys.executable,
        "-c",
        program,
        *arguments,
        *shlex.split(setting("rqdisco.service", "Service", "ExecStart"))[1:],
    ]


def listen_option(domain: str) -> str:
    """Return the service's own option, for sockets of another family."""
    name, _, value = setting("rqdisco.service", "Service", "Environment").partition("=")
    assert name == "RQDISCO_LISTEN"
    return value.replace("domain=INET:", f"domain={domain}:")


def socket_name() -> str:
    """Return the name of the socket that the socket unit passes."""
    return setting("rqdisco.socket", "Socket", "FileDescriptorName")


def environment(directory: Path, **more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(FROM_SYSTEMD)}
    return {**inherited, "PYTHONPATH": str(ROOT), "STATE_DIRECTORY": str(directory / "state"), **more}


@contextmanager
def running(
    command: list[str], directory: Path, variables: Mapping[str, str], **how: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is gone when the context is left."""
    with subprocess.Popen(command, cwd=directory, env=variables, **how) as process:
        try:
            yield process
        finally:
            process.kill()


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    assert process.wait(PATIENCE) == -signal.SIGTERM


def connect_unix(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE)
    connection.connect(str(path))
    return connection


def ask(connection: socket.socket, method: str, path: str) -> Any:
    """Return the answer over a connection, which is then closed."""
    with closing(http.client.HTTPConnection("localhost")) as client:
        client.sock = connection
        client.request(method, path)
        answer = client.getresponse()
        assert answer.status == 200
        return json.loads(answer.read())


class Manager:
    """systemd's end of the socket for notifications."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def receive(self) -> str:
        """Return the next notification."""
        return self._socket.recv(4096).decode()

    def received_nothing(self) -> bool:
        """Report whether there was no notification, of all that were sent before."""
        self._socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            self._socket.recv(4096)
        return True

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def any_manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    path = str(tmp_path / "notify")
    with closing(Manager(f"@{path}" if request.param == "abstract" else path)) as manager:
        yield manager


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with closing(Manager(str(tmp_path / "notify"))) as manager:
        yield manager


@needs("systemd-analyze")
def test_systemd_analyze_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    program = shlex.split(setting("rqdisco.service", "Service", "ExecStart"))[0]
    copies = [tmp_path / name for name in ("rqdisco.service", "rqdisco.socket", "rqdisco-etcd.service")]
    for copy in copies:
        copy.write_text((UNITS / copy.name).read_text().replace(program, sys.executable))

    verified = subprocess.run(
        ["systemd-analyze", "verify", *map(str, copies)], capture_output=True, text=True, check=False
    )

    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


@needs("systemd-analyze")
@pytest.mark.parametrize("unit", ["rqdisco", "rqdisco-etcd"])
def test_the_service_is_sandboxed(unit: str) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(UNITS / f"{unit}.service")]

    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    level = re.search(rf"Overall exposure level for {unit}\.service: ([0-9.]+)", report)
    assert level is not None
    assert float(level[1]) <= 2.0, report


def test_the_service_with_its_records_in_etcd_keeps_nothing_on_the_machine() -> None:
    text = (UNITS / "rqdisco-etcd.service").read_text()
    variables = dict(line.split("=", 1) for line in re.findall(r"^Environment=(.*)$", text, re.MULTILINE))
    options = DaemonOptions(variables)
    options.parseOptions([])

    assert options.config.etcd is not None
    assert options.config.data_dir is None
    assert "StateDirectory=" not in text
    # systemd gives up on a start that is still waiting for etcd only after the daemon does.
    assert options.config.etcd.wait < 120
    assert "TimeoutStartSec=2min" in text


def test_the_units_differ_only_where_a_state_directory_makes_the_difference() -> None:
    own, with_etcd = (
        {line for line in (UNITS / name).read_text().splitlines() if line and not line.startswith("#")}
        for name in ("rqdisco.service", "rqdisco-etcd.service")
    )
    names = {line.partition("=")[0] for line in own ^ with_etcd}

    assert names == {
        "Description",
        "Wants",
        "After",
        "Also",
        "Environment",
        "StateDirectory",
        "StateDirectoryMode",
        "TimeoutStartSec",
        "RestartPreventExitStatus",
        "KillMode",
        "OOMPolicy",
        "SystemCallFilter",
    }


@needs("systemd-socket-activate")
def test_a_connection_starts_the_service(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    variables = environment(tmp_path, RQDISCO_LISTEN=listen_option("UNIX"), SYSTEMD_LOG_TARGET="console")
    passed_on = [f"--setenv={name}={value}" for name, value in variables.items()]
    command = ["systemd-socket-activate", f"--listen={path}", f"--fdname={socket_name()}", *passed_on, *command_line()]

    with running(command, tmp_path, variables, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith(b"Listening on ")
        assert ask(connect_unix(path), "GET", "/")["ids"] == 0
        created = ask(connect_unix(path), "POST", "/")["disco_id"]
        assert ask(connect_unix(path), "GET", f"/{created}")["disco_id"] == created
        stop(process)


def test_connections_wait_while_the_service_restarts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = command_line(INHERIT + TWISTD, str(listening.fileno()))
        variables = environment(
            tmp_path, RQDISCO_LISTEN=listen_option("INET"), LISTEN_FDS="1", LISTEN_FDNAMES=socket_name()
        )
        address = listening.getsockname()

        with running(command, tmp_path, variables, pass_fds=[listening.fileno()]) as process:
            created = ask(socket.create_connection(address, PATIENCE), "POST", "/")["disco_id"]
            stop(process)
        waiting = socket.create_connection(address, PATIENCE)
        with running(command, tmp_path, variables, pass_fds=[listening.fileno()]) as process:
            assert ask(waiting, "GET", f"/{created}")["disco_id"] == created
            stop(process)


def test_systemd_is_notified_of_the_state(any_manager: Manager, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    variables = environment(
        tmp_path, RQDISCO_LISTEN=f"unix:{path}", NOTIFY_SOCKET=any_manager.address, WATCHDOG_USEC="200000"
    )

    with running(command_line(), tmp_path, variables) as process:
        assert any_manager.receive() == "READY=1"
        assert ask(connect_unix(path), "GET", "/")["ids"] == 0
        assert [any_manager.receive() for _ in range(3)] == ["WATCHDOG=1"] * 3
        process.terminate()
        assert set(iter(any_manager.receive, "STOPPING=1")) <= {"WATCHDOG=1"}
        assert process.wait(PATIENCE) == -signal.SIGTERM
        assert any_manager.received_nothing()


def test_a_watchdog_of_another_process_is_not_fed(manager: Manager, tmp_path: Path) -> None:
    variables = environment(
        tmp_path,
        RQDISCO_LISTEN=f"unix:{tmp_path / 'http.sock'}",
        NOTIFY_SOCKET=manager.address,
        WATCHDOG_PID=str(os.getpid()),
        WATCHDOG_USEC="200000",
    )

    with running(command_line(), tmp_path, variables) as process:
        assert manager.receive() == "READY=1"
        stop(process)
        assert manager.receive() == "STOPPING=1"


class TestRefusalToStart:
    """It is never reported as ready, and restarted only if the reason may pass."""

    @pytest.fixture
    def state(self, tmp_path: Path) -> Path:
        state = tmp_path / "state"
        state.mkdir()
        return state

    def test_a_bad_option_stops_the_unit(self, manager: Manager, tmp_path: Path) -> None:
        self.check(64, manager, tmp_path, RQDISCO_MAX_NODES="many")

    def test_a_damaged_state_stops_the_unit(self, manager: Manager, tmp_path: Path, state: Path) -> None:
        (state / "snapshot.json").write_text("{}\n")
        self.check(65, manager, tmp_path)

    def test_a_state_in_use_stops_the_unit(self, manager: Manager, tmp_path: Path, state: Path) -> None:
        with (state / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.check(78, manager, tmp_path)

    def test_a_port_in_use_stops_the_unit(self, manager: Manager, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            self.check(69, manager, tmp_path, may_pass=True, RQDISCO_LISTEN=f"tcp:{port}:interface=127.0.0.1")

    def test_an_unusable_directory_stops_the_unit(self, manager: Manager, tmp_path: Path, state: Path) -> None:
        (state / "journal").write_text("")
        self.check(74, manager, tmp_path, may_pass=True)

    def check(self, status: int, manager: Manager, tmp_path: Path, *, may_pass: bool = False, **variables: str) -> None:
        usual = {"RQDISCO_LISTEN": f"unix:{tmp_path / 'http.sock'}", "NOTIFY_SOCKET": manager.address}
        with running(command_line(), tmp_path, environment(tmp_path, **usual | variables)) as process:
            assert process.wait(PATIENCE) == status
        final = setting("rqdisco.service", "Service", "RestartPreventExitStatus").split()
        assert (str(status) not in final) == may_pass
        # A daemon that was not ready has nothing to report, except that it stops.
        assert manager.received_nothing()
