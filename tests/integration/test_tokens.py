"""The daemon in a separate process with tokens, with rqlited and with the command."""

from __future__ import annotations

import signal
from http.client import HTTPConnection
from pathlib import Path

import consul
import pytest
from consul.exceptions import ACLPermissionDenied

from tests.integration.conftest import Start
from tests.integration.test_refusals import refusal
from tests.support.process import Environment
from tests.support.rqlited import VERSIONS, Node, RqliteNetwork, run_all

pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("ignore:verify_ssl is deprecated")]


def new(installed: Environment, file: Path, name: str, *options: str) -> str:
    """Create a token, by the command."""
    made = installed.run("rqdisco", "token", "new", name, f"--file={file}", *options)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


def test_rqlite_forms_a_cluster_with_the_token_in_its_url_and_exits_without(
    installed: Environment, start: Start, file: Path, tmp_path: Path
) -> None:
    admin = new(installed, file, "ops", "--scope=admin")
    daemon = start(tmp_path / "state", f"--tokens={file}")
    url = f"http://127.0.0.1:{daemon.port}"
    created = installed.run("rqdisco", "create", RQDISCO_URL=url, RQDISCO_TOKEN=admin)
    discovery_id = created.stdout.strip()
    node = new(installed, file, "orders", f"--id={discovery_id}")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for("tokens reloaded", count=2)
    network = RqliteNetwork()

    def nodes(user: str) -> list[Node]:
        return [
            Node(version, f"10.0.0.{number}:4001", discovery_id, lambda: daemon.port, network, user)
            for number, version in enumerate((VERSIONS[1], VERSIONS[4], VERSIONS[-1]), 1)
        ]

    refused = run_all(nodes(""))
    assert {outcome.log for outcome in refused} == {
        "unable to determine join addresses: 401 authentication required"
    }, "the whole log of rqlited"
    assert {outcome.log for outcome in run_all(nodes("x:wrong"))} == {
        "unable to determine join addresses: 401 unknown token"
    }
    assert sorted(outcome.kind for outcome in run_all(nodes(f"x:{node}"))) == ["joined", "joined", "leader"]
    assert [len(members) for members in network.clusters.values()] == [3]
    listed = installed.run("rqdisco", "nodes", discovery_id, RQDISCO_URL=url.replace("//", f"//x:{node}@"))
    assert len(listed.stdout.splitlines()) == 3
    assert {event.get("token") for event in daemon.events if event["event"] == "registration"} == {"orders"}
    shown = "".join(map(str, daemon.events)) + daemon.stderr
    assert admin not in shown
    assert node not in shown


def test_consuls_own_client_sends_its_token_and_gets_consuls_error_for_a_wrong_one(
    installed: Environment, start: Start, file: Path, tmp_path: Path
) -> None:
    token = new(installed, file, "orders", "--id=orders")
    daemon = start(tmp_path / "state", f"--tokens={file}")
    value = '{"id":"1","api_addr":"http://h:1","addr":"h:2"}'
    client = consul.Consul("127.0.0.1", daemon.port, token=token)
    assert client.kv.put("orders/leader", value, cas=0) is True
    assert client.kv.put("orders/leader", value) is True
    assert client.kv.get("orders/leader")[1]["Value"].decode() == value
    with pytest.raises(ACLPermissionDenied, match="Permission denied"):
        client.kv.get("invoices/leader")
    with pytest.raises(ACLPermissionDenied, match="ACL not found"):
        consul.Consul("127.0.0.1", daemon.port, token="wrong").kv.put("orders/leader", value)
    with pytest.raises(ACLPermissionDenied, match="Permission denied"):
        consul.Consul("127.0.0.1", daemon.port).kv.get("orders/leader")


def test_a_revoked_token_is_refused_without_a_signal_on_an_open_connection(
    installed: Environment, start: Start, file: Path, tmp_path: Path
) -> None:
    new(installed, file, "ops", "--scope=admin")
    token = new(installed, file, "minter", "--scope=mint")
    daemon = start(tmp_path / "state", f"--tokens={file}")
    connection = daemon.connect()

    def status(connection: HTTPConnection) -> int:
        connection.request("POST", "/", headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        response.read()
        return response.status

    assert status(connection) == 200
    installed.run("rqdisco", "token", "revoke", "minter", f"--file={file}")
    daemon.wait_for("tokens reloaded", count=1)
    assert status(connection) == 401
    connection.close()


def test_an_unusable_file_leaves_the_old_tokens(
    installed: Environment, start: Start, file: Path, tmp_path: Path
) -> None:
    token = new(installed, file, "ops", "--scope=admin")
    daemon = start(tmp_path / "state", f"--tokens={file}")
    url = f"http://x:{token}@127.0.0.1:{daemon.port}"
    for spoil in (lambda: file.write_text("nonsense\n"), file.unlink):
        seen = len(daemon.events)
        spoil()
        daemon.process.send_signal(signal.SIGHUP)
        assert str(file) in daemon.wait_for(f"tokens not reloaded, the old ones stay in use: {_why(file)}", seen)["why"]
        assert installed.run("rqdisco", "create", RQDISCO_URL=url).returncode == 0


def _why(file: Path) -> str:
    if file.exists():
        return f"{file}: line 1: not NAME SCOPES sha256:HEX [id=ID]"
    return f"{file}: No such file or directory; create one with `rqdisco token new`"


@pytest.mark.parametrize("content", [None, "nonsense\n", "ops admin rqd_thetokenitself\n"])
def test_an_unusable_token_file_is_64(installed: Environment, file: Path, tmp_path: Path, content: str | None) -> None:
    if content is not None:
        file.write_text(content)
    code, line = refusal(installed, tmp_path / "state", f"--tokens={file}")
    assert code == 64
    assert line.startswith(f"{file}: ")
    assert "thetokenitself" not in line


@pytest.mark.parametrize(
    "endpoint", ["tcp:0", "tcp:0:interface=0.0.0.0", "tcp6:0", "haproxy:tcp:0:interface=127.0.0.1"]
)
def test_other_hosts_are_not_served_without_tokens_unless_configured(
    installed: Environment, start: Start, tmp_path: Path, endpoint: str
) -> None:
    code, line = refusal(installed, tmp_path / "state", listen=endpoint)
    assert code == 64
    assert line.startswith(f"{endpoint}: other machines can connect and no token is required")


def test_an_open_daemon_serves_everybody(installed: Environment, tmp_path: Path) -> None:
    daemon = installed.start(*installed.twistd(tmp_path / "state", "--open", listen="tcp:0"))
    try:
        assert daemon.nodes(daemon.create_id()) == []
    finally:
        daemon.kill()
