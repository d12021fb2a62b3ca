"""The operator socket of the running daemon, and other sockets in the file system: they are back
after any exit.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from tests.integration.conftest import Start
from tests.support.process import Environment

pytestmark = pytest.mark.process


def ask(path: Path, request: str) -> bytes:
    """Return the whole answer to one request."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(f"{request} HTTP/1.0\r\n\r\n".encode())
        return b"".join(iter(lambda: client.recv(65536), b""))


def test_only_the_owner_may_open_the_socket_which_lists_every_id(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "o.sock"
    daemon = start(tmp_path / "state", f"--operator-socket={path}")
    discovery_id = daemon.create_id()
    assert daemon.wait_for("listening")["operator"] == [f"unix:{path}"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert discovery_id.encode() in ask(path, "GET /operator/export")
    assert daemon.request("GET", "/operator/export").status == 404


def test_a_socket_left_by_a_daemon_that_was_killed_is_replaced(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "o.sock"
    start(tmp_path / "state", f"--operator-socket={path}").kill()
    assert path.is_socket()
    daemon = start(tmp_path / "state", f"--operator-socket={path}")
    assert b"200 OK" in ask(path, "GET /operator/export")
    daemon.terminate()
    assert not path.exists()


@pytest.mark.parametrize("option", ["listen", "metrics-listen"])
def test_a_stale_socket_is_replaced_whatever_process_has_its_number_now(
    start: Start, tmp_path: Path, option: str
) -> None:
    path, lock = tmp_path / "http.sock", tmp_path / "http.sock.lock"
    start(tmp_path / "state", f"--{option}=unix:{path}").kill()
    assert path.is_socket()
    # Twisted's own lock beside a socket: the number of a process, here of a live one.
    lock.unlink(missing_ok=True)
    lock.symlink_to(str(os.getpid()))
    daemon = start(tmp_path / "state", f"--{option}=unix:{path}")
    assert b"200 OK" in ask(path, "GET /metrics" if option == "metrics-listen" else "GET /healthz")
    assert daemon.terminate() == -signal.SIGTERM
    assert not path.exists()


def test_a_socket_that_another_daemon_listens_on_is_not_removed(
    start: Start, installed: Environment, tmp_path: Path
) -> None:
    path = tmp_path / "o.sock"
    start(tmp_path / "state", f"--operator-socket={path}")
    for option in (f"--operator-socket={path}", f"--listen=unix:{path}"):
        second = installed.run(*installed.twistd(tmp_path / "other", option))
        assert second.returncode == 69
        assert second.stderr == f"rqdisco: cannot listen on unix:{path}: another process listens there\n"
        assert b"200 OK" in ask(path, "GET /operator/export")


@pytest.mark.parametrize("kind", ["file", "link", "directory"])
def test_only_a_socket_is_ever_removed(installed: Environment, tmp_path: Path, kind: str) -> None:
    path, precious = tmp_path / "o.sock", tmp_path / "precious"
    precious.write_text("precious")
    {"file": lambda: path.write_text("precious"), "link": lambda: path.symlink_to(precious), "directory": path.mkdir}[
        kind
    ]()
    refused = installed.run(*installed.twistd(tmp_path / "state", f"--operator-socket={path}"))
    assert (refused.returncode, refused.stderr.count("\n")) == (69, 1)
    assert precious.read_text() == "precious"
    assert path.is_dir() or path.read_text() == "precious"


def test_systemds_runtime_directory_holds_the_socket_by_default(start: Start, tmp_path: Path) -> None:
    start(tmp_path / "state", RUNTIME_DIRECTORY=str(tmp_path))
    assert b"200 OK" in ask(tmp_path / "operator.sock", "GET /operator/export")
