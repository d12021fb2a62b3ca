"""The base class of the HTTP APIs, which the router calls."""

from __future__ import annotations

from collections.abc import Callable

from rqdisco.core.errors import NoSuchID
from rqdisco.http.requests.authorization import Authorizer
from rqdisco.http.requests.request import Request, path_of
from rqdisco.http.requests.responses import Response
from rqdisco.http.requests.runner import ApiRunner, unsupported_method
from rqdisco.security.tokens import Right, Token


class Api:
    """The base of the APIs of a listener: authorizes clients, and refuses what the API does not
    have.

    Without `authorizer` every client has every right. `kind_of` returns the kind of event that a
    request attempts.
    """

    # What a client needs to be told that a path does not exist.
    not_found_right: Right = "known"

    def __init__(
        self,
        runner: ApiRunner,
        authorizer: Authorizer | None = None,
        kind_of: Callable[[Request], str] | None = None,
    ) -> None:
        self._runner = runner
        self._authorizer = None if authorizer is None else authorizer.for_api(runner.api, kind_of)

    @property
    def runner(self) -> ApiRunner:
        """Runs the handlers of this API."""
        return self._runner

    @property
    def requires_token(self) -> bool:
        """Report whether clients need a token."""
        return self._authorizer is not None

    def admit(self, request: Request, right: Right, variable: str | None = None) -> Token | None:
        """Return the caller's token, None if tokens are not required. `variable` is that of the
        path, an ID in most. Raises NotAuthenticated, NotAllowed, or what stands for them.
        """
        return None if self._authorizer is None else self._authorizer.admit(request, right, variable)

    def is_admin(self, request: Request) -> bool:
        """Report whether an admin sent the request; without tokens, whoever reaches the operator's
        listener is one.
        """
        return self._authorizer is None or self._authorizer.lets_administer(request)

    def check(self, variable: str | None = None) -> None:
        """Raise NoSuchID if nothing can be at a path with this variable part."""

    def no_such_path(self, request: Request) -> Exception:
        """The error for a path that this API does not have."""
        return NoSuchID(path_of(request))

    async def refuse_method(self, request: Request, allow: str, variable: str | None = None) -> Response:
        """Answer a method that is not in `allow`."""
        raise unsupported_method(request, allow)
