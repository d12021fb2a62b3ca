"""What balancers and supervisors ask, on every listener.

`GET /healthz`: does the process answer? `GET /readyz`: can it be asked for lists? `GET
/readyz?grant=1`: may it also change what is known, and tell a node that it is alone?

No token is needed. Where there are tokens, what is wrong is told to admins alone, since it names
peers and their URLs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource

from rqdisco.http.requests.authorization import Authorizer
from rqdisco.http.requests.documents import encode_object
from rqdisco.http.requests.leaf import LeafResource
from rqdisco.http.requests.responses import MethodNotAllowed, Response
from rqdisco.http.requests.runner import ApiRunner, has_flag, method_of
from rqdisco.telemetry.health import Health

_METHODS = (b"GET", b"HEAD")


class HealthPages:
    """The pages, by their names. With `authorizer` only who may administer is told why."""

    def __init__(self, health: Health, runner: ApiRunner, authorizer: Authorizer | None = None) -> None:
        self._health = health
        self._runner = runner
        self._authorizer = authorizer

    def resources(self) -> Mapping[bytes, IResource]:
        """What answers under each name."""
        return {
            b"healthz": _Page(_is_alive, self._runner),
            b"readyz": _Page(self._is_ready, self._runner),
        }

    def _is_ready(self, request: IRequest) -> Response:
        condition = self._health.for_grants() if has_flag(request, b"grant") else self._health.for_lists()
        ready = not condition.wrong
        members: dict[str, object] = {"ready": ready}
        if self._authorizer is None or self._authorizer.lets_administer(request.requestHeaders):
            members |= {"wrong": list(condition.wrong), "notes": list(condition.notes)}
        body = encode_object(members)
        return Response(200, body) if ready else Response(503, body, b"not ready")


class _Page(LeafResource):
    """One page, which waits for nothing."""

    def __init__(self, answer: Callable[[IRequest], Response], runner: ApiRunner) -> None:
        super().__init__()
        self._answer = answer
        self._runner = runner

    def render(self, request: Any) -> bytes:
        if request.method in _METHODS:
            answer = self._answer(request)
        else:
            error = MethodNotAllowed(f'unsupported method "{method_of(request)}"', "GET, HEAD")
            answer = self._runner.refuse(Failure(error))
        return answer.put_on(request)


def _is_alive(_: IRequest) -> Response:
    return Response(200, encode_object({"alive": True, "wrong": []}))
