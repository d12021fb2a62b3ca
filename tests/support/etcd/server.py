"""The model etcd over real sockets, in threads of its own.

It can be used from tests that block and from those that run a reactor. Whoever touches the model
while it listens does so inside `with server.changing() as model`.
"""

from __future__ import annotations

import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.etcd.gateway import Gateway
from tests.support.etcd.gateway_stream import GatewayStream
from tests.support.etcd.model import ModelEtcd
from tests.support.etcd.rendering import Answer
from tests.support.etcd.serving import Member

CHUNKED_FROM = 2048  # what Go's server does with longer answers


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], server: ModelServer, member: Member, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(address, _Handler)
        if tls is not None:
            # The handshake is made by the first read, in the connection's own thread.
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.server = server
        self.member = member
        self.connections: set[socket.socket] = set()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: connections break, that is what they are for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Listener

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        token = self.headers.get("Authorization")
        if self.path == "/v3/watch":
            self._watch(body, token)
            return
        answer = self.server.server.post(self.server.member, self.path, body, token)
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        if len(answer.body) > CHUNKED_FROM:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self._chunk(answer.body)
            self._chunk(b"")
        else:
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)
            self.wfile.flush()

    def do_GET(self) -> None:
        self.send_error(405)

    def log_message(self, *args: Any) -> None:
        """Log nothing."""

    def _watch(self, body: bytes, token: str | None) -> None:
        lines: queue.SimpleQueue[bytes | bool] = queue.SimpleQueue()
        needs_leader = self.headers.get("Grpc-Metadata-Hasleader") == "true"
        stream = self.server.server.open(self.server.member, body, token, needs_leader, lines)
        self.close_connection = True
        try:
            started = False
            while not isinstance(line := lines.get(), bool):
                if not started:
                    # etcd sends the head together with the first line.
                    started = True
                    self.send_response(stream.status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Transfer-Encoding", "chunked")
                    self.end_headers()
                self._chunk(line + b"\n")
            if not line:
                self._chunk(b"")
        finally:
            with self.server.server.changing():
                stream.close()

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()


class ModelServer:
    """One listener on 127.0.0.1 for each member, whose URLs are `endpoints` by name."""

    def __init__(
        self, model: ModelEtcd, now: Callable[[], float] = time.monotonic, tls: ssl.SSLContext | None = None
    ) -> None:
        self.gateway = Gateway(model)
        self.endpoints: dict[str, str] = {}
        self._model = model
        self._now = now
        self._tls = tls
        self._changed = threading.Condition(threading.RLock())
        self._closed = False
        self._listeners: dict[str, _Listener] = {}
        self._waiting = dict.fromkeys(model.members, 0)
        self._ports = dict.fromkeys(model.members, 0)
        with self.changing():
            pass
        self._timer = threading.Thread(target=self._expire, daemon=True)
        self._timer.start()

    @contextmanager
    def changing(self) -> Iterator[ModelEtcd]:
        """Give the model to somebody alone; listeners follow what was done to members."""
        with self._changed:
            yield self._model
            self._model.tick()
            stopped = self._follow_members()
            self._changed.notify_all()
        for listener in stopped:
            _stop(listener)

    def close(self) -> None:
        """Stop listening and break all connections."""
        with self.changing() as model:
            self._closed = True
            for name in model.members:
                model.stop(name)
        self._timer.join()

    def post(self, member: Member, path: str, body: bytes, token: str | None) -> Answer:
        """Answer a request as late as its member does. Raises ConnectionResetError if the member
        stops meanwhile.
        """
        with self._changed:
            self._wait_while_hanging(member)
            answer = self.gateway.post(member.name, path, body, token)
            self._changed.notify_all()
            if answer.after:
                self._changed.wait_for(lambda: not member.running, answer.after)
            self._wait_while_hanging(member)
            return answer

    def open(
        self, member: Member, body: bytes, token: str | None, needs_leader: bool, lines: queue.SimpleQueue[bytes | bool]
    ) -> GatewayStream:
        """Open a stream that puts lines, and at the end whether it broke."""
        with self._changed:
            self._wait_while_hanging(member)
            return self.gateway.open(member.name, body, token, needs_leader, lines.put, lines.put)

    def wait_for_request(self, name: str) -> None:
        """Wait until a request waits at a member that hangs."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting[name])

    def _wait_while_hanging(self, member: Member) -> None:
        if member.hanging:
            self._waiting[member.name] += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: not member.hanging)
            self._waiting[member.name] -= 1
        if not member.running:
            raise ConnectionResetError

    def _follow_members(self) -> list[_Listener]:
        for member in self._model.members.values():
            if member.running and member.name not in self._listeners:
                listener = _Listener(("127.0.0.1", self._ports[member.name]), self, member, self._tls)
                self._ports[member.name] = listener.server_address[1]
                scheme = "http" if self._tls is None else "https"
                self.endpoints[member.name] = f"{scheme}://127.0.0.1:{listener.server_address[1]}"
                self._listeners[member.name] = listener
                threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True).start()
        stopped = [name for name in self._listeners if not self._model.members[name].running]
        return [self._listeners.pop(name) for name in stopped]

    def _expire(self) -> None:
        with self._changed:
            while not self._closed:
                at = self._model.next_expiry()
                self._changed.wait(None if at is None else max(0.01, at - self._now()))
                self._model.tick()


def _stop(listener: _Listener) -> None:
    listener.shutdown()
    listener.server_close()
    for connection in list(listener.connections):
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
