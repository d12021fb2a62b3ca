"""Health checks for load balancers and supervisors, on every listener.

`GET /healthz` reports whether the process answers, `GET /readyz` whether it can serve lists, `GET
/readyz?grant=1` whether it can also change records and tell a node to bootstrap.

No token is needed. Where tokens are required, only admins see what is wrong, since it names peers
and their URLs.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, UnsetType

from rqdisco.http.requests.api import Api
from rqdisco.http.requests.authorization import Authorizer
from rqdisco.http.requests.documents import encode_object
from rqdisco.http.requests.request import Request, has_flag
from rqdisco.http.requests.responses import Response
from rqdisco.http.requests.runner import ApiRunner
from rqdisco.security.tokens import Token
from rqdisco.telemetry.health import DaemonHealth


class Liveness(msgspec.Struct, frozen=True):
    """The process answers."""

    alive: bool
    wrong: Sequence[str]


class Readiness(msgspec.Struct, frozen=True):
    """The readiness of the daemon. `wrong` lists the reasons against it, `notes` other conditions
    that operators should know.
    """

    ready: bool
    wrong: Sequence[str] | UnsetType = UNSET
    notes: Sequence[str] | UnsetType = UNSET


class HealthAPI(Api):
    """The health checks of one listener. Only admins see what is wrong."""

    def __init__(self, health: DaemonHealth, runner: ApiRunner, authorizer: Authorizer | None = None) -> None:
        super().__init__(runner, authorizer)
        self._health = health

    async def show_liveness(self, request: Request, token: Token | None) -> Response:
        """Report that the process answers."""
        return Response(200, encode_object(Liveness(alive=True, wrong=())))

    async def show_readiness(self, request: Request, token: Token | None) -> Response:
        """Report whether the daemon is ready."""
        condition = self._health.for_grants() if has_flag(request, b"grant") else self._health.for_lists()
        is_ready = not condition.wrong
        readiness = Readiness(is_ready)
        if self.is_admin(request):
            readiness = Readiness(is_ready, condition.wrong, condition.notes)
        body = encode_object(readiness)
        return Response(200, body) if is_ready else Response(503, body, b"not ready")
