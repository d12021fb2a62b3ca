"""A daemon checks etcd when it starts, and refuses in words."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from rqdisco.backends.etcd.versions import objection
from rqdisco.core.errors import (
    CannotStart,
    DamagedState,
    EtcdAccessDenied,
    EtcdUnavailable,
    EtcdUnusable,
    LoopbackConflict,
    StoreUnavailable,
    UnknownFormat,
)
from rqdisco.core.host_binding import THIS_MACHINE
from rqdisco.core.records import Node
from rqdisco.http_client.interfaces import PostReply
from rqdisco.tap import _STATUS
from tests.support.daemon import give_up, result
from tests.support.etcd.asking import A, put_by
from tests.support.etcd.daemon import PREFIX, Cluster, opened
from tests.support.etcd.memory import DELIVER, HANG, Fate, ModelTransport
from tests.support.etcd.wire import PutRequest
from tests.support.etcd.wired import Wired, started

META = f"{PREFIX}v1/meta"


class NoGateway(Cluster):
    """An etcd without a JSON gateway."""

    def transport(self) -> ModelTransport:
        return TransportWithoutGateway(self.gateway, self.endpoints, self.clock)


class TransportWithoutGateway(ModelTransport):
    def post(self, endpoint: str, path: str, body: bytes, token: str | None, seconds: float) -> Deferred[PostReply]:
        return succeed(PostReply(404, b"404 page not found\n"))


class TwoClusters(Cluster):
    """Two members that were each started as a cluster of its own, in the same way, so that their
    clusters have the same ID. `other` is the second one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.other = Cluster(self.clock)
        self.endpoints["http://m2:2379"] = "m2"

    def transport(self) -> ModelTransport:
        transport = TransportToTwo(self.gateway, {"http://m1:2379": "m1"}, self.clock)
        transport.other = ModelTransport(self.other.gateway, {"http://m2:2379": "m1"}, self.clock)
        return transport


class TransportToTwo(ModelTransport):
    other: ModelTransport

    def post(self, endpoint: str, path: str, body: bytes, token: str | None, seconds: float) -> Deferred[PostReply]:
        if endpoint == "http://m2:2379":
            return self.other.post(endpoint, path, body, token, seconds)
        return super().post(endpoint, path, body, token, seconds)


class SeesCommonName(Cluster):
    """An etcd with authentication, whose clients present a certificate with a common name."""

    def transport(self) -> ModelTransport:
        return TransportWithCommonName(self.gateway, self.endpoints, self.clock)


class TransportWithCommonName(ModelTransport):
    def post(self, endpoint: str, path: str, body: bytes, token: str | None, seconds: float) -> Deferred[PostReply]:
        text = b"CommonName of client sending a request against gateway will be ignored and not used as expected\n"
        return succeed(PostReply(400, text))


def refused(cluster: Cluster, *options: str, seconds: float = 10) -> tuple[type[CannotStart], str]:
    wired = Wired(cluster, *options)
    wired.start()
    cluster.clock.pump([0.05] * int(seconds * 20))
    assert wired.refusal is not None
    assert not wired.checked
    assert wired.lists().wrong
    wired.stop()
    return type(wired.refusal), str(wired.refusal)


def store(cluster: Cluster, key: str, value: bytes) -> None:
    cluster.model.put(PutRequest(key=key.encode(), value=value), None)


def with_user(cluster: Cluster, tmp_path: Path, password: str) -> list[str]:
    """Switch authentication on with a user who may use the prefix; return options for that user."""
    accounts: Any = cluster.model.accounts
    for path, fields in (
        ("/v3/auth/user/add", {"name": "root", "password": "r"}),
        ("/v3/auth/user/grant", {"user": "root", "role": "root"}),
    ):
        cluster.gateway.post("m1", path, json.dumps(fields).encode())
    accounts.enabled = True
    file = tmp_path / "password"
    file.write_text(f"{password}\n")
    file.chmod(0o600)
    return ["--etcd-user=root", f"--etcd-password-file={file}"]


def test_a_daemon_on_an_empty_etcd_creates_its_store_and_is_ready() -> None:
    cluster = Cluster()
    wired = started(cluster)
    assert (wired.lists().wrong, wired.grants().wrong) == ((), ())
    again = started(cluster, seed=1)
    assert again.backend.directory.index
    assert cluster.model.keyspace.revision == 2, "the second daemon created nothing"


def test_until_the_check_has_passed_the_daemon_is_not_ready() -> None:
    wired = Wired(Cluster())
    assert wired.lists().wrong == ("etcd has not been checked yet",)


def test_an_etcd_that_does_not_answer_is_named_with_the_reason() -> None:
    cluster = Cluster()
    cluster.model.stop("m1")
    assert refused(cluster) == (
        EtcdUnusable,
        "no etcd endpoint answers (http://m1:2379: http://m1:2379: connection refused)",
    )


def test_a_daemon_told_to_wait_tries_until_etcd_answers(log: list[dict[str, Any]]) -> None:
    cluster = Cluster()
    cluster.model.stop("m1")
    wired = Wired(cluster, "--wait-for-etcd=60")
    wired.start()
    cluster.clock.pump([0.05] * 20 * 50)
    assert (wired.refusal, wired.checked) == (None, False)
    assert wired.lists().wrong == ("no etcd endpoint answers (http://m1:2379: http://m1:2379: connection refused)",)
    assert len([event for event in log if event["log_format"] == "waiting for etcd"]) == 1
    cluster.model.start("m1")
    cluster.clock.pump([0.05] * 40)
    assert wired.checked
    assert wired.lists().wrong == ()


def test_a_daemon_told_to_wait_gives_up_in_the_end() -> None:
    cluster = Cluster()
    cluster.model.stop("m1")
    assert refused(cluster, "--wait-for-etcd=20", seconds=30)[0] is EtcdUnusable


def test_a_daemon_can_be_stopped_while_it_waits() -> None:
    cluster = Cluster()
    cluster.model.stop("m1")
    wired = Wired(cluster, "--wait-for-etcd=60")
    wired.start()
    cluster.clock.pump([0.05] * 100)
    assert wired.checking is not None
    give_up(wired.checking)
    wired.stop()
    assert cluster.clock.getDelayedCalls() == []


@pytest.mark.parametrize("asked", ["/v3/maintenance/status", "/v3/kv/range"])
def test_a_daemon_can_be_stopped_while_it_compares_the_members(asked: str) -> None:
    cluster = Cluster(members=3)
    started(cluster, seed=1).stop()
    wired = Wired(cluster)
    first = next(iter(cluster.endpoints))
    wired.transport.plan = lambda sent: HANG if sent.path == asked and sent.endpoint != first else DELIVER
    wired.start()
    assert wired.checking is not None
    give_up(wired.checking)
    wired.stop()
    assert not wired.checked
    assert cluster.clock.getDelayedCalls() == []


def test_one_member_of_three_is_enough_to_start_with() -> None:
    cluster = Cluster(members=3)
    cluster.model.stop("m1")
    wired = started(cluster)
    assert wired.lists().wrong == ()
    assert (
        "the etcd member at http://m1:2379 does not answer: http://m1:2379: connection refused" in wired.lists().notes
    )


@pytest.mark.parametrize(
    ("version", "usable"),
    [
        ("3.4.0", True),
        ("3.4.23", True),
        ("3.4.21", False),
        ("3.5.0", False),
        ("3.5.1", False),
        ("3.5.2", False),
        ("3.5.3", True),
        ("3.5.5", False),
        ("3.5.6", True),
        ("3.6.0-rc.1", True),
        ("3.3.27", False),
        ("2.3.8", False),
        ("", False),
    ],
)
def test_versions_that_lose_data_or_are_too_old_are_refused(version: str, usable: bool) -> None:
    assert (objection(version) is None) == usable


def test_a_version_that_cannot_be_used_is_named_with_its_member() -> None:
    cluster = Cluster()
    cluster.model.version = "3.5.1"
    kind, text = refused(cluster)
    assert kind is EtcdUnusable
    assert text.startswith("http://m1:2379: etcd 3.5.1 has a bug")
    assert cluster.model.keyspace.revision == 1, "nothing was written"


@pytest.mark.parametrize("is_used", [False, True])
def test_endpoints_of_two_clusters_are_refused(is_used: bool) -> None:
    cluster = TwoClusters()
    if is_used:
        opened(cluster.other, seed=7)
    kind, text = refused(cluster)
    assert kind is EtcdUnusable
    assert text == "http://m1:2379 and http://m2:2379 are not members of one etcd cluster"


def test_nothing_is_decided_before_all_endpoints_were_compared() -> None:
    cluster = TwoClusters()
    wired = Wired(cluster)
    assert isinstance(wired.transport, TransportToTwo)
    wired.transport.other.plan = lambda sent: Fate(answered=0.5)
    wired.start()
    asking = Deferred.fromCoroutine(wired.backend.directory.claim("orders", put_by(A), None))
    with pytest.raises(StoreUnavailable):
        result(asking)
    cluster.clock.pump([0.25] * 10)
    assert isinstance(wired.refusal, EtcdUnusable)
    wired.stop()


def test_a_member_of_another_cluster_that_appears_later_stops_changes_while_it_is_there() -> None:
    cluster = TwoClusters()
    cluster.other.model.stop("m1")
    wired = started(cluster)
    discovery_id = str(result(Deferred.fromCoroutine(wired.backend.directory.create())).id)
    cluster.other.model.start("m1")
    cluster.clock.pump([0.25] * 40)
    register = partial(wired.backend.directory.register, discovery_id, Node(addr=A), None)
    why = "the etcd member at http://m2:2379 is of another cluster; daemons must use one"
    with pytest.raises(EtcdUnavailable) as refusal:
        result(Deferred.fromCoroutine(register()))
    assert refusal.value.reason == why
    assert wired.grants().wrong == (why,)
    assert wired.lists().wrong == ()
    cluster.other.model.stop("m1")
    cluster.clock.pump([0.25] * 40)
    assert result(Deferred.fromCoroutine(register())).bootstrap == "granted"
    wired.stop()


def test_a_gateway_that_is_switched_off_is_named() -> None:
    kind, text = refused(NoGateway())
    assert kind is EtcdUnusable
    assert text.startswith("there is no JSON gateway; etcd runs with --enable-grpc-gateway=false")


def test_a_client_certificate_that_the_gateway_does_not_take_is_named(tmp_path: Path) -> None:
    for options in ([], with_user(Cluster(), tmp_path, "r")):
        kind, text = refused(SeesCommonName(), *options)
        assert kind is EtcdAccessDenied
        assert text == (
            "etcd's JSON gateway does not take client certificates with a common name while authentication is on;"
            " use one without"
        )


def test_a_store_of_a_newer_release_is_refused() -> None:
    cluster = Cluster()
    store(cluster, META, b'{"format":2}')
    kind, text = refused(cluster)
    assert kind is UnknownFormat
    assert text.startswith(f"{META}: format 2 is newer")


def test_a_damaged_store_is_refused() -> None:
    cluster = Cluster()
    store(cluster, META, b"{}")
    assert refused(cluster)[0] is DamagedState
    other = Cluster()
    store(other, f"{PREFIX}v1/ids/x", b"{}")
    assert refused(other)[0] is DamagedState


def test_etcd_that_wants_a_user_says_so() -> None:
    cluster = Cluster()
    cluster.model.accounts.enabled = True
    kind, text = refused(cluster)
    assert kind is EtcdAccessDenied
    assert text.startswith("etcd requires a user and a password: set --etcd-user and --etcd-password-file")


def test_a_wrong_password_is_refused_and_the_right_one_is_read_from_the_file(tmp_path: Path) -> None:
    cluster = Cluster()
    options = with_user(cluster, tmp_path, "wrong")
    assert refused(cluster, *options) == (EtcdAccessDenied, "etcd refused the user name or the password")
    started(cluster, *with_user(cluster, tmp_path, "r"))


@pytest.mark.parametrize("password", ["secret", 's3cr"et\\', "geheim\u00e4"])
@pytest.mark.parametrize("path", ["/v3/auth/authenticate", "/v3/kv/range"])
def test_a_program_in_etcds_place_that_repeats_the_request_makes_no_secret_known(
    path: str, password: str, tmp_path: Path, log: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster()
    options = with_user(cluster, tmp_path, "r")
    (tmp_path / "password").write_text(password)
    wired = Wired(cluster, *options, "--wait-for-etcd=3")

    def repeat(endpoint: str, asked: str, body: bytes, token: str | None, seconds: float) -> Deferred[PostReply]:
        if asked != path:
            return succeed(PostReply(200, b'{"header":{"cluster_id":"1"},"token":"t0ken"}'))
        text = f"cannot read {body.decode()} by {token}"
        return succeed(PostReply(400, json.dumps({"code": 3, "message": text}).encode()))

    monkeypatch.setattr(wired.transport, "post", repeat)
    wired.start()
    cluster.clock.pump([0.25] * 40)
    assert isinstance(wired.refusal, EtcdUnusable | EtcdAccessDenied)
    shown = f"{wired.refusal} {wired.lists()} {log}"
    assert "the answer repeats what was sent" in shown
    for secret in (password, json.dumps(password)[1:-1], "t0ken"):
        assert secret not in shown
    wired.stop()


def test_a_password_file_that_cannot_be_read_is_refused_before_etcd_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "none"
    with pytest.raises(EtcdAccessDenied) as refusal:
        Wired(Cluster(), "--etcd-user=u", f"--etcd-password-file={path}")
    assert str(refusal.value) == (f"{path}: No such file or directory; it must hold the password of u at etcd")


def test_a_full_etcd_lets_a_daemon_start_where_a_store_exists() -> None:
    cluster = Cluster()
    started(cluster).stop()
    cluster.model.alarms["NOSPACE"] = 1
    wired = started(cluster)
    assert wired.lists().wrong == ()
    assert wired.grants().wrong[0].startswith("etcd's database is full")


@pytest.mark.parametrize("network", ["boot-a net:[1]", "boot-a net:[2]", None])
def test_a_node_that_lost_its_answer_is_told_again_by_another_daemon_of_its_machine(network: str | None) -> None:
    cluster = Cluster()
    first = started(cluster, network="boot-a net:[1]").backend.directory
    discovery_id = result(Deferred.fromCoroutine(first.create())).id
    node = Node(addr="localhost:4001")
    assert result(Deferred.fromCoroutine(first.register(discovery_id, node, THIS_MACHINE))).bootstrap == "granted"
    other = started(cluster, seed=1, network=network).backend.directory
    if network == "boot-a net:[1]":
        assert result(Deferred.fromCoroutine(other.register(discovery_id, node, THIS_MACHINE))).bootstrap == "again"
    else:
        with pytest.raises(LoopbackConflict):
            result(Deferred.fromCoroutine(other.register(discovery_id, node, THIS_MACHINE)))


def test_refusals_have_exit_statuses() -> None:
    assert (_STATUS[EtcdUnusable], _STATUS[EtcdAccessDenied], _STATUS[UnknownFormat]) == (69, 64, 65)
