"""Servers other than rqdisco, and how the client library treats their answers."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from rqdisco.client import Refused, Unreachable
from tests.support.command import Service


class LeafResource(Resource):
    """A resource without children."""

    isLeaf = True  # noqa: N815, Twisted's


class CannedAnswer(LeafResource):
    """Answers every request alike and records it; without a body it never answers."""

    def __init__(self, status: int = 200, body: bytes | None = b"", reason: bytes = b"", **headers: str) -> None:
        super().__init__()
        self._status, self._body, self._reason, self._headers = status, body, reason, headers
        self.requests: list[Any] = []
        self.bodies: list[bytes] = []

    def render(self, request: Any) -> Any:
        self.requests.append(request)
        self.bodies.append(request.content.read())
        request.setResponseCode(self._status, self._reason or None)
        for name, value in self._headers.items():
            request.setHeader(name.replace("_", "-"), value)
        return NOT_DONE_YET if self._body is None else self._body


def refused(service: Service, coroutine: Any) -> Refused:
    with pytest.raises(Refused) as refusal:
        service.get(coroutine)
    return refusal.value


def unreachable(service: Service, coroutine: Any) -> str:
    with pytest.raises(Unreachable) as reason:
        service.get(coroutine)
    return str(reason.value)


def start(service: Service, coroutine: Any) -> list[Any]:
    """Run a coroutine; its result is put into the list."""
    outcome: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(outcome.append)
    service.settle()
    return outcome


class SlowAnswer(LeafResource):
    """Sends a part of its answer, and another one on demand."""

    def render(self, request: Any) -> Any:
        self.request = request
        request.write(b"{")
        return NOT_DONE_YET
