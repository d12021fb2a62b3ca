"""A real etcd in all its states: it is full, restored from a backup, compacted, and
its tokens end.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pytest

from tests.support.etcd.authentication import PASSWORD, USER, authentication
from tests.support.etcd.encoding import b64
from tests.support.etcd.processes import Events, arguments
from tests.support.etcd.real import RealEtcd, needs_etcd
from tests.support.process import DaemonProcess, Environment, Reply
from tests.support.proxied_peers import at_last

pytestmark = [pytest.mark.process, needs_etcd]

NODES = ["n1:4001", "n2:4001", "n3:4001"]
QUOTA = 8 * 1024 * 1024
# Longer than a request waits on a busy machine.
TOKEN_SECONDS = 5
VALUE = 500_000

Start = Callable[..., DaemonProcess]
StartEtcd = Callable[..., RealEtcd]


@pytest.fixture
def start_etcd(tmp_path: Path) -> Iterator[StartEtcd]:
    """Starts an etcd with some options."""
    with ExitStack() as stack:
        yield lambda *options: stack.enter_context(closing(RealEtcd(tmp_path, options=options)))


@pytest.fixture
def start(installed: Environment) -> Iterator[Start]:
    """Starts daemons as `start(etcd, *options)`; return when they use it."""
    with ExitStack() as stack:

        def start_daemon(etcd: RealEtcd, *options: str) -> DaemonProcess:
            # On a busy machine a member may take long to answer.
            daemon = installed.start(*arguments(etcd.endpoints, "--wait-for-etcd=60", *options))
            stack.callback(daemon.kill)
            daemon.wait_for("etcd is in use")
            return daemon

        yield start_daemon


def register(daemon: DaemonProcess, discovery_id: str, addr: str) -> list[str]:
    reply = daemon.request("POST", f"/{discovery_id}", {"addr": addr})
    assert reply.status == 200, (reply.status, reply.body)
    nodes: list[str] = reply.document["nodes"]
    return nodes


def refusal(daemon: DaemonProcess, discovery_id: str, addr: str) -> str:
    """Return the reason for which a registration is refused."""
    reply = daemon.request("POST", f"/{discovery_id}", {"addr": addr})
    assert reply.status == 503, (reply.status, reply.body)
    return str(reply.document.get("reason") or reply.document["error"])


def fill(etcd: RealEtcd, number: int) -> Reply:
    """Put a large value. Etcd compares its quota with the size of its file, which it writes every 100 ms."""
    value = b64(os.urandom(VALUE).hex()[:VALUE])
    return etcd.post("/v3/kv/put", {"key": b64(f"other/{number}"), "value": value})


def test_a_full_etcd_is_named_lists_go_on_and_changes_go_on_once_there_is_space(
    start_etcd: StartEtcd, start: Start
) -> None:
    etcd = start_etcd(f"--quota-backend-bytes={QUOTA}")
    daemon = start(etcd)
    discovery_id = daemon.create_id()
    assert register(daemon, discovery_id, NODES[0]) == NODES[:1]
    filled = next(reply for reply in map(partial(fill, etcd), range(20 * QUOTA // VALUE)) if reply.status != 200)
    assert filled.document["code"] == 8

    daemon.wait_for("etcd is full")
    assert "full" in refusal(daemon, discovery_id, NODES[1])
    created = daemon.request("POST", "/")
    assert (created.status, "full" in created.document["reason"]) == (503, True)
    assert daemon.nodes(discovery_id) == NODES[:1]
    assert daemon.request("GET", "/readyz").status == 200
    assert daemon.request("GET", "/readyz?grant=1").status == 503

    assert etcd.post("/v3/kv/deleterange", {"key": b64("other/"), "range_end": b64("other0")}).status == 200
    revision = etcd.post("/v3/kv/range", {"key": b64("x")}).document["header"]["revision"]
    assert etcd.post("/v3/kv/compaction", {"revision": revision, "physical": True}).status == 200
    assert etcd.post("/v3/maintenance/defragment", {}).status == 200
    (alarm,) = etcd.post("/v3/maintenance/alarm", {"action": "GET"}).document["alarms"]
    assert etcd.post("/v3/maintenance/alarm", {**alarm, "action": "DEACTIVATE"}).status == 200
    daemon.wait_for("etcd can be written again")
    assert register(daemon, discovery_id, NODES[1]) == NODES[:2]
    assert daemon.complaints == []


def test_daemons_on_a_restored_etcd_grant_nothing_until_an_operator_says_so(
    start_etcd: StartEtcd, start: Start, installed: Environment, tmp_path: Path
) -> None:
    etcd = start_etcd()
    keeps = f"--data-dir={tmp_path / 'state'}"
    daemon, other = start(etcd, keeps), start(etcd)
    before = [daemon.create_id() for _ in range(3)]
    etcd.save(tmp_path / "backup")
    for discovery_id in before[:2]:
        assert register(daemon, discovery_id, NODES[0]) == NODES[:1]
    register(other, before[1], NODES[1])

    etcd.restore(tmp_path / "backup")
    for each in (daemon, other):
        assert "restored from a backup" in at_last(partial(went_back, each, before[0]))
        assert each.request("GET", f"/{before[0]}").status == 200
        assert each.request("GET", "/readyz").status == 200
        assert each.request("GET", "/readyz?grant=1").status == 503
    assert daemon.terminate() == -signal.SIGTERM
    daemon = start(etcd, keeps)
    assert "restored from a backup" in refusal(daemon, before[1], NODES[1])

    for each in (daemon, other):
        assert each.terminate() == -signal.SIGTERM
    said = installed.run("rqdisco", "etcd", "restored", "--yes", *(f"--etcd={each}" for each in etcd.endpoints))
    assert said.returncode == 0, said.stderr
    daemon, other = start(etcd, keeps), start(etcd)
    for each in (daemon, other):
        assert each.request("GET", "/readyz?grant=1").status == 200
        assert each.request("POST", f"/{before[2]}", {"addr": NODES[2]}).status == 410
        assert register(each, each.create_id(), NODES[0]) == NODES[:1]


def went_back(daemon: DaemonProcess, discovery_id: str) -> str:
    """Return why a registration is refused, nothing if etcd does not answer yet."""
    reason = refusal(daemon, discovery_id, NODES[2])
    return reason if "restored" in reason else ""


def test_an_event_stream_goes_on_through_a_compaction_and_a_restart_of_etcd(
    start_etcd: StartEtcd, start: Start
) -> None:
    etcd = start_etcd()
    daemon, other = start(etcd), start(etcd)
    discovery_id = daemon.create_id()
    with Events(other, discovery_id) as events:
        register(daemon, discovery_id, NODES[0])
        events.wait_for(NODES[:1])
        revision = etcd.post("/v3/kv/range", {"key": b64("x")}).document["header"]["revision"]
        assert etcd.post("/v3/kv/compaction", {"revision": revision, "physical": True}).status == 200
        register(daemon, discovery_id, NODES[1])
        events.wait_for(NODES[:2])
        etcd.members["e1"].kill()
        etcd.start("e1")
        at_last(lambda: daemon.request("POST", f"/{discovery_id}", {"addr": NODES[2]}).status == 200)
        events.wait_for(NODES)


def test_tokens_that_ended_are_renewed_without_a_client_noticing(
    start_etcd: StartEtcd, start: Start, tmp_path: Path
) -> None:
    etcd = start_etcd(f"--auth-token-ttl={TOKEN_SECONDS}")
    password = tmp_path / "password"
    password.write_text(f"{PASSWORD}\n")
    password.chmod(0o600)
    with authentication(etcd, "/rqdisco/"):
        daemon = start(etcd, f"--etcd-user={USER}", f"--etcd-password-file={password}")
        discovery_id = daemon.create_id()
        with Events(daemon, discovery_id) as events:
            register(daemon, discovery_id, NODES[0])
            daemon.process.send_signal(signal.SIGSTOP)
            time.sleep(TOKEN_SECONDS + 2)
            daemon.process.send_signal(signal.SIGCONT)
            assert register(daemon, discovery_id, NODES[1]) == NODES[:2]
            # Tokens are lost with the process.
            etcd.members["e1"].kill()
            etcd.start("e1")
            at_last(lambda: daemon.request("GET", f"/{discovery_id}").status == 200)
            assert register(daemon, discovery_id, NODES[2]) == NODES
            events.wait_for(NODES)
        assert daemon.complaints == []
