"""TLS in the running daemon: a certificate replaced under an open connection, and peers with
certificates.
"""

from __future__ import annotations

import ctypes
import signal
import socket
import ssl
import subprocess
from contextlib import ExitStack, closing
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Start
from tests.integration.test_refusals import refusal
from tests.support.certificates import Authority, replace
from tests.support.process import PATIENCE, DaemonProcess, Environment, ask

pytestmark = pytest.mark.process

LOOPBACK = "127.0.0.1"
PR_SET_MDWE, PR_GET_MDWE = 65, 66


class Site:
    """An authority in a file, and certificates of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority()
        self.ca = directory / "ca"
        self.ca.write_bytes(self.authority.pem)

    def listener(self, name: str, *more: str, port: int = 0, host: str = LOOPBACK) -> str:
        key, certificate = self.authority.write(self.directory, name, [LOOPBACK])
        return ":".join([f"ssl:{port}:interface={host}:privateKey={key}:certKey={certificate}", *more])

    def connect(self, daemon: DaemonProcess, pair: tuple[Path, Path] | None = None) -> HTTPSConnection:
        context = ssl.create_default_context(cafile=self.ca)
        if pair is not None:
            context.load_cert_chain(pair[1], pair[0])
        connection = HTTPSConnection(LOOPBACK, daemon.port, timeout=PATIENCE, context=context)
        connection.connect()
        return connection


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def stack() -> Any:
    with ExitStack() as stack:
        yield stack


def run(installed: Environment, stack: ExitStack, state: Path, listen: str) -> DaemonProcess:
    daemon = installed.start(*installed.twistd(state, listen=listen))
    stack.callback(daemon.kill)
    return daemon


def subject(connection: HTTPSConnection) -> str:
    certificate: Any = connection.sock.getpeercert()
    return str(dict(pair for (pair,) in certificate["subject"])["commonName"])


def test_a_certificate_is_replaced_while_a_connection_stays_open(
    installed: Environment, stack: ExitStack, site: Site, tmp_path: Path
) -> None:
    daemon = run(installed, stack, tmp_path / "state", site.listener("old"))
    before = stack.enter_context(closing(site.connect(daemon)))
    assert (ask(before, "POST", "/").status, subject(before)) == (200, "old")
    for file, content in zip(("old.key", "old.crt"), site.authority.issue("new", [LOOPBACK], 60), strict=True):
        replace(tmp_path / file, content)
    daemon.process.send_signal(signal.SIGHUP)
    ends = daemon.wait_for("certificates reloaded", where=f"listen tcp:0:interface={LOOPBACK}")
    after = stack.enter_context(closing(site.connect(daemon)))
    assert (subject(before), subject(after)) == ("old", "new")
    assert (ask(before, "POST", "/").status, ask(after, "GET", "/").document["ids"]) == (200, 2)
    status = daemon.wait_for("status")
    assert status["certificates"] == {ends["where"]: ends["not_after"]}
    assert daemon.complaints == []
    assert daemon.stderr == ""
    assert daemon.terminate() == -signal.SIGTERM


def test_a_certificate_that_expires_soon_is_logged(
    installed: Environment, stack: ExitStack, site: Site, tmp_path: Path
) -> None:
    listen = site.listener("daemon")
    site.authority.write(tmp_path, "daemon", [LOOPBACK], days=5)
    daemon = run(installed, stack, tmp_path / "state", listen)
    logged = daemon.wait_for("certificate expires soon", where=f"listen tcp:0:interface={LOOPBACK}")
    assert (logged["level"], logged["days"]) == ("warn", 4)
    assert daemon.terminate() == -signal.SIGTERM


def test_the_command_uses_a_client_certificate_instead_of_a_token(
    installed: Environment, stack: ExitStack, site: Site, tmp_path: Path
) -> None:
    listen = site.listener("daemon", f"clientCA={site.ca}", host="0.0.0.0")
    daemon = run(installed, stack, tmp_path / "state", listen)
    key, certificate = site.authority.write(tmp_path, "client")
    where = {"RQDISCO_URL": f"https://{LOOPBACK}:{daemon.port}", "RQDISCO_CA": str(site.ca)}
    made = installed.run("rqdisco", "create", RQDISCO_CERT=str(certificate), RQDISCO_KEY=str(key), **where)
    assert (made.returncode, made.stderr) == (0, "")
    refused = installed.run("rqdisco", "create", **where)
    assert (refused.returncode, refused.stderr.count("\n")) == (3, 1)
    assert "TLS: " in refused.stderr
    unusable = installed.run("rqdisco", "create", RQDISCO_CERT=str(tmp_path / "none"), **where)
    assert (unusable.returncode, str(tmp_path / "none") in unusable.stderr) == (2, True)
    assert daemon.complaints == []


@pytest.mark.parametrize("missing", ["key", "crt"])
def test_unusable_files_are_64(installed: Environment, site: Site, tmp_path: Path, missing: str) -> None:
    listen = site.listener("a")
    (tmp_path / f"a.{missing}").unlink()
    code, line = refusal(installed, tmp_path / "state", listen=listen)
    assert (code, line) == (64, f"{tmp_path}/a.{missing}: No such file or directory")


def test_a_systemd_restriction_that_breaks_tls_is_reported(installed: Environment, site: Site, tmp_path: Path) -> None:
    if ctypes.CDLL(None).prctl(PR_GET_MDWE, 0, 0, 0, 0) < 0:
        pytest.skip("this kernel has no PR_SET_MDWE, which is what MemoryDenyWriteExecute= is like")
    python, flag, script, *arguments = installed.command(
        *installed.twistd(tmp_path / "state", listen=site.listener("a"))
    )
    forbid = f"import ctypes; ctypes.CDLL(None).prctl({PR_SET_MDWE}, 1, 0, 0, 0); "
    refused = subprocess.run(
        [python, flag, forbid + script, *arguments],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (refused.returncode, refused.stderr.count("\n")) == (64, 1)
    assert "MemoryDenyWriteExecute=no" in refused.stderr


def test_tls_alone_is_no_reason_to_serve_other_hosts(installed: Environment, site: Site, tmp_path: Path) -> None:
    code, line = refusal(installed, tmp_path / "state", listen=site.listener("a", host="0.0.0.0"))
    assert (code, "no token is required" in line) == (64, True)


def test_peers_use_tls_with_certificates_of_their_own(start: Start, site: Site, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("ab" * 32)
    with socket.create_server((LOOPBACK, 0)) as one, socket.create_server((LOOPBACK, 0)) as other:
        ports = one.getsockname()[1], other.getsockname()[1]

    def begin(name: str, own: int, peer: int, *more: str) -> DaemonProcess:
        return start(
            tmp_path / name,
            f"--name={name}",
            f"--peer-listen={site.listener(name, f'clientCA={site.ca}', port=own)}",
            f"--advertise=https://{LOOPBACK}:{own}",
            f"--peer=https://{LOOPBACK}:{peer}",
            f"--peer-keys={tmp_path / 'keys'}",
            *more,
        )

    def shown(name: str) -> tuple[str, str, str]:
        key, certificate = site.authority.write(tmp_path, f"{name}-client")
        return f"--peer-ca={site.ca}", f"--peer-cert={certificate}", f"--peer-key={key}"

    a = begin("a", *ports, *shown("a"))
    b = begin("b", *ports[::-1], f"--peer-ca={site.ca}")
    a.wait_for("peers agree", count=2)
    why = b.wait_for("peer does not answer")["why"]
    assert "certificate required" in why or "handshake" in why, why
    b.kill()
    b = begin("b", *ports[::-1], *shown("b"))
    b.wait_for("peers agree", count=2)
    discovery_id = a.create_id()
    assert b.request("POST", f"/{discovery_id}", {"addr": "n1:4001"}).document["nodes"] == ["n1:4001"]
    assert a.nodes(discovery_id) == ["n1:4001"]
