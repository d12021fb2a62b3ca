"""A daemon keeps secrets, and contacts nobody but its peers."""

from __future__ import annotations

import base64
import socket
from pathlib import Path

import pytest

from tests.integration.conftest import Start
from tests.integration.test_tokens import new
from tests.support.process import DaemonProcess, Environment
from tests.support.trio import KEY, own_address

pytestmark = pytest.mark.process

MISTYPED = "rqd_mistypedmistypedmistypedmist"


def ask(daemon: DaemonProcess, method: str, path: str, body: str = "", **headers: str) -> str:
    """Return the whole answer."""
    connection = daemon.connect()
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body.encode(), named)
        response = connection.getresponse()
        return f"{response.status} {response.reason} {response.getheaders()} {response.read().decode()}"
    finally:
        connection.close()


def test_secrets_are_in_no_log_no_answer_no_file_and_no_process_list(
    installed: Environment, start: Start, tmp_path: Path
) -> None:
    token = new(installed, tmp_path / "tokens", "ops", "--scope=admin")
    (tmp_path / "keys").write_text(f"{KEY}\n")
    state, here = tmp_path / "state", own_address()
    host, _, port = here.rpartition(":")
    daemon = start(
        state,
        f"--tokens={tmp_path / 'tokens'}",
        f"--audit={tmp_path / 'audit'}",
        "--name=a",
        f"--peer-listen=tcp:{port}:interface={host}",
        f"--advertise=http://{here}",
        f"--peer=http://{own_address()}",
        f"--peer-keys={tmp_path / 'keys'}",
    )
    answers = []
    for secret in (token, MISTYPED):
        basic = base64.b64encode(f"x:{secret}".encode()).decode()
        for headers in (
            {"Authorization": f"Bearer {secret}"},
            {"Authorization": f"Basic {basic}"},
            {"X_Consul_Token": secret},
        ):
            for method, path in (
                ("POST", "/"),
                ("GET", "/nobodys"),
                ("PUT", "/v1/kv/x/leader"),
                ("GET", "/operator/peers"),
            ):
                answers.append(ask(daemon, method, path, '{"addr":"h:1"}', **headers))
        answers.append(ask(daemon, "GET", f"/x?token={secret}"))
    process = Path(f"/proc/{daemon.process.pid}")
    listed = (process / "cmdline").read_text() + (process / "environ").read_text()
    daemon.terminate()
    assert any(answer.startswith("200 ") for answer in answers)
    files = [file for file in (*state.rglob("*"), tmp_path / "audit") if file.is_file()]
    kept = "".join(file.read_bytes().decode("latin-1") for file in files)
    assert '"token":"ops"' in kept, "its name, in the audit log"
    shown = "".join(map(str, daemon.events)) + daemon.stderr + "".join(answers) + listed + kept
    for secret in (token, MISTYPED, KEY):
        assert secret not in shown


def test_registering_a_node_contacts_nobody(start: Start, tmp_path: Path) -> None:
    with socket.socket() as registered:
        registered.bind(("127.0.0.1", 0))
        registered.listen()
        registered.setblocking(False)
        at = f"127.0.0.1:{registered.getsockname()[1]}"
        daemon = start(tmp_path / "state", f"--operator-socket={tmp_path / 'socket'}")
        discovery_id = daemon.create_id()
        for addr in (at, f"http://{at}", f"https://{at}/x?y"):
            assert daemon.request("POST", f"/{discovery_id}", {"addr": addr, "raft_addr": at}).status == 200
        leader = {"id": "1", "api_addr": f"http://{at}", "addr": at}
        assert daemon.request("PUT", f"/v1/kv/{discovery_id}/leader", leader).status == 200
        for path in (f"/{discovery_id}", f"/{discovery_id}?consistent=1", f"/v1/kv/{discovery_id}/leader", "/readyz"):
            assert daemon.request("GET", path).status == 200
        daemon.terminate()
        with pytest.raises(BlockingIOError):
            registered.accept()
