"""One suite, two ways to reach the daemon, through treq in memory and over a real port, and two
backends.
"""

from __future__ import annotations

import http.client
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from rqdisco.http.server.site import Site, SiteConfig
from tests.support.any_daemon import AnyDaemon
from tests.support.backends import new_daemon, over
from tests.support.certificates import Authority
from tests.support.daemon import Daemon
from tests.support.in_memory_http import InMemoryClient
from tests.support.listening import close, listen_tcp, port_number
from tests.support.process import PATIENCE

MAX_BODY = 2000


class Answer(msgspec.Struct, frozen=True):
    """An answer as a client reads it."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


Ask = Callable[..., Awaitable[Answer]]


class ApiClient:
    """A daemon and a way to send requests to it."""

    def __init__(self, daemon: Any, ask: Callable[[str, str, bytes, dict[str, str]], Deferred[Answer]]) -> None:
        self.daemon = daemon
        self._ask = ask

    def __call__(
        self, method: str, path: str, body: bytes | dict[str, Any] = b"", /, **headers: str
    ) -> Deferred[Answer]:
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return self._ask(method, path, content, {name.replace("_", "-"): value for name, value in headers.items()})

    async def create_id(self) -> str:
        answer = await self("POST", "/")
        return str(answer.json["disco_id"])


def _in_memory(daemon: AnyDaemon) -> ApiClient:
    client = InMemoryClient(daemon.apis.public())

    def ask(method: str, path: str, body: bytes, headers: dict[str, str]) -> Deferred[Answer]:
        async def run() -> Answer:
            response = await client.request(method, f"http://rqdisco:4000{path}", data=body, headers=headers)
            got = {name.decode().lower(): values[0].decode() for name, values in response.headers.getAllRawHeaders()}
            content = await client.content(response)
            got.setdefault("content-length", str(response.length))
            return Answer(response.code, response.phrase.decode(), got, content)

        return Deferred.fromCoroutine(run())

    return ApiClient(daemon, ask)


def _over_a_port(daemon: AnyDaemon, port: int) -> ApiClient:
    def blocking(method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            connection.request(method, path, body or None, {"Content-Length": str(len(body)), **headers})
            response = connection.getresponse()
            got = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, response.reason, got, response.read())
        finally:
            connection.close()

    return ApiClient(daemon, lambda *request: deferToThread(blocking, *request))


@pytest.fixture
def options() -> dict[str, Any]:
    """Options of the daemon; a test module overrides this fixture where it needs to."""
    return {}


@pytest.fixture(params=["memory", "port", "etcd"])
def api(request: pytest.FixtureRequest, options: dict[str, Any]) -> Iterator[ApiClient]:
    """A daemon of either backend."""
    with over("etcd" if request.param == "etcd" else "single"):
        yield from _served(new_daemon(max_body=MAX_BODY, **options), request.param == "port")


@pytest.fixture(params=["memory", "port"])
def stored_api(request: pytest.FixtureRequest, options: dict[str, Any]) -> Iterator[ApiClient]:
    """A daemon that stores its records itself."""
    yield from _served(Daemon(max_body=MAX_BODY, **options), request.param == "port")


def _served(daemon: Any, over_a_port: bool) -> Iterator[ApiClient]:
    import pytest_twisted
    from twisted.internet import reactor

    if not over_a_port:
        yield _in_memory(daemon)
        daemon.deadlines.stop()
        return
    site = Site(daemon.apis.public(), reactor, SiteConfig(), lambda: 0.0)
    port = listen_tcp(site)
    yield _over_a_port(daemon, port_number(port))
    pytest_twisted.blockon(Deferred.fromCoroutine(close(port)))
    pytest_twisted.blockon(site.drain())
    daemon.deadlines.stop()


@pytest.fixture
def authority() -> Authority:
    return Authority()
