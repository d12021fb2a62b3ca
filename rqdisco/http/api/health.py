"""What balancers and supervisors ask, on every listener.

`GET /healthz`: does the process answer? `GET /readyz`: can it be asked for lists? `GET /readyz?grant=1`: may it also
change what is known, and tell a node that it is alone?

No token is needed. Where there are tokens, what is wrong is told to admins alone, since it names peers and their URLs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource

from rqdisco.http.requests.authorization import Gate
from rqdisco.http.requests.documents import encode_object
from rqdisco.http.requests.leaf import Leaf
from rqdisco.http.requests.responses import Answer, MethodNotAllowed
from rqdisco.http.requests.runner import Handling, has_flag, method_of
from rqdisco.telemetry.health import Health

_METHODS = (b"GET", b"HEAD")


class HealthPages:
    """The pages, by their names. With `gate` only who may administer is told why."""

    def __init__(self, health: Health, handling: Handling, gate: Gate | None = None) -> None:
        self._health = health
        self._handling = handling
        self._gate = gate

    def resources(self) -> Mapping[bytes, IResource]:
        """What answers under each name."""
        return {
            b"healthz": _Page(_is_alive, self._handling),
            b"readyz": _Page(self._is_ready, self._handling),
        }

    def _is_ready(self, request: IRequest) -> Answer:
        condition = self._health.for_grants() if has_flag(request, b"grant") else self._health.for_lists()
        ready = not condition.wrong
        members: dict[str, object] = {"ready": ready}
        if self._gate is None or self._gate.lets_administer(request.requestHeaders):
            members |= {"wrong": list(condition.wrong), "notes": list(condition.notes)}
        body = encode_object(members)
        return Answer(200, body) if ready else Answer(503, body, b"not ready")


class _Page(Leaf):
    """One page, which waits for nothing."""

    def __init__(self, answer: Callable[[IRequest], Answer], handling: Handling) -> None:
        super().__init__()
        self._answer = answer
        self._handling = handling

    def render(self, request: Any) -> bytes:
        if request.method in _METHODS:
            answer = self._answer(request)
        else:
            error = MethodNotAllowed(f'unsupported method "{method_of(request)}"', "GET, HEAD")
            answer = self._handling.refuse(Failure(error))
        return answer.put_on(request)


def _is_alive(_: IRequest) -> Answer:
    return Answer(200, encode_object({"alive": True, "wrong": []}))
