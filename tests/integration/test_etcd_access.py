"""The access of the client to etcd over sockets: users, gateways that are off, and certificates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from rqdisco.backends.etcd.auth import Credentials
from rqdisco.backends.etcd.failures import AuthFailed, NotApplied
from rqdisco.backends.etcd.messages import Range, Txn, WatchCreate, put_op
from rqdisco.security.certificates import Certificates, Files
from rqdisco.security.tls import ClientPolicy
from tests.support.certificates import Authority
from tests.support.etcd.authentication import PASSWORD, USER, authentication
from tests.support.etcd.connected import PATIENCE, Connected, Events
from tests.support.etcd.model import ModelEtcd
from tests.support.etcd.real import Certificates as MemberCertificates
from tests.support.etcd.real import RealEtcd, needs_etcd
from tests.support.etcd.server import ModelServer
from tests.support.etcd.subjects import OverHTTP


class Guarded:
    """A member with authentication, and a user who may use the keys below `allowed/`."""

    def __init__(self, endpoint: str, admin: OverHTTP, token: str) -> None:
        self.endpoint = endpoint
        self._admin, self._token = admin, token

    def change_password(self, password: str) -> None:
        """Change the password of the user."""
        change = {"name": USER, "password": password}
        assert self._admin.post("/v3/auth/user/changepw", change, self._token).status == 200


@pytest.fixture(params=["model", pytest.param("real", marks=needs_etcd)])
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guarded]:
    from twisted.internet import reactor

    with ExitStack() as stack:
        if request.param == "model":
            server = stack.enter_context(closing(ModelServer(ModelEtcd(reactor.seconds, ("e1",)), reactor.seconds)))
            endpoint = server.endpoints["e1"]
        else:
            (endpoint,) = stack.enter_context(closing(RealEtcd(tmp_path))).endpoints
        admin = stack.enter_context(closing(OverHTTP(endpoint)))
        token, _ = stack.enter_context(authentication(admin, "allowed/"))
        yield Guarded(endpoint, admin, token)


@ensureDeferred
async def test_a_user_reaches_what_its_role_allows_even_after_its_password_was_changed(guarded: Guarded) -> None:
    password = PASSWORD
    async with Connected((guarded.endpoint,), lambda: Credentials(USER, password)) as connected:
        allowed = Txn(success=(put_op(b"allowed/a", b"1"),))
        assert (await connected.client.txn(allowed)).succeeded
        denied = await connected.failure(Txn(success=(put_op(b"denied", b"1"),)))
        assert type(denied) is AuthFailed
        assert str(denied).startswith("etcd's user lacks the permission")
        events = Events(connected.clock)
        watch = connected.client.watch([WatchCreate(key=b"allowed/a")], events)
        await events.until(lambda: bool(events.responses))
        watch.close()
        password = "changed"
        guarded.change_password(password)
        assert (await connected.client.txn(allowed)).succeeded
        assert (await connected.client.range(Range(key=b"allowed/a"))).count == 1
        assert connected.counts.renewals >= 2


@pytest.mark.parametrize(
    ("credentials", "reason"),
    [
        (None, "etcd requires a user and a password"),
        (lambda: Credentials(USER, "wrong"), "etcd refused the user name or the password"),
        (lambda: Credentials("nobody", "secret"), "etcd refused the user name or the password"),
    ],
)
@ensureDeferred
async def test_without_the_right_password_every_request_says_so(
    guarded: Guarded, credentials: Any, reason: str
) -> None:
    async with Connected((guarded.endpoint,), credentials) as connected:
        for request in (Range(key=b"allowed/a"), Txn(success=(put_op(b"allowed/a", b"1"),))):
            failure = await connected.failure(request)
            assert type(failure) is AuthFailed
            assert str(failure).startswith(reason)


@needs_etcd
@ensureDeferred
async def test_a_gateway_that_is_switched_off_is_named(tmp_path: Path) -> None:
    with closing(RealEtcd(tmp_path, options=["--enable-grpc-gateway=false"])) as etcd:
        async with Connected(etcd.endpoints) as connected:
            failure = await connected.failure(Range(key=b"a"))
            assert str(failure).startswith("there is no JSON gateway")
            with pytest.raises(NotApplied, match="there is no JSON gateway"):
                await connected.client.status(etcd.endpoints[0])


def policy(authority: Path, pair: tuple[Path, Path] | None) -> ClientPolicy:
    from twisted.internet import reactor

    key, certificate = pair or (None, None)
    files = Files(key=key, certificate=certificate, authorities=authority)
    return ClientPolicy(Certificates(reactor.seconds).for_clients("etcd", files))


@needs_etcd
@ensureDeferred
async def test_tls_with_a_client_certificate(tmp_path: Path) -> None:
    certificates = MemberCertificates(tmp_path, Authority(), for_clients=True)
    authority, pair = certificates.authority_file, certificates.client_pair
    with closing(RealEtcd(tmp_path, certificates=certificates)) as etcd:
        async with Connected(etcd.endpoints, None, policy(authority, pair)) as connected:
            for number in range(3):
                assert (await connected.client.txn(Txn(success=(put_op(b"a", b"%d" % number),)), PATIENCE)).succeeded
            events = Events(connected.clock)
            watch = connected.client.watch([WatchCreate(key=b"a")], events)
            await events.until(lambda: bool(events.responses))
            watch.close()
            await watch.done
        async with Connected(etcd.endpoints, None, policy(authority, None)) as connected:
            assert "TLS" in str(await connected.failure(Range(key=b"a")))
        other = tmp_path / "other.crt"
        other.write_bytes(Authority().pem)
        async with Connected(etcd.endpoints, None, policy(other, pair)) as connected:
            failure = await connected.failure(Txn(success=(put_op(b"a", b"1"),)))
            assert type(failure) is NotApplied
            assert "certificate verify failed" in str(failure)
