"""Renders pages, one in a turn of the reactor, and states what browsers may do with them."""

from __future__ import annotations

from collections.abc import Callable

from twisted.web.template import Element, flattenString

from rqdisco.http.context import HTTPContext
from rqdisco.http.requests.costs import page_cost
from rqdisco.http.requests.request import Request, path_of
from rqdisco.http.requests.responses import Headers, Response
from rqdisco.http.ui.assets import Assets
from rqdisco.http.ui.elements import PageFrame
from rqdisco.limits.slots import Slots

_HTML = b"text/html; charset=utf-8"
# Rendering takes up to some 50 ms, and everybody else waits meanwhile: one page in a turn of the
# reactor, and as long a rest after it. The wait leaves time to render, and for the delay of a rate
# limit (P4).
PAGES_AT_ONCE = 1
PATIENCE_SECONDS = 5.0
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
# Discovery IDs are secrets, and the address of a page contains one.
_SECURITY: Headers = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
# The same address has another document for other clients, which no cache may confuse with this.
PAGE: Headers = (*_SECURITY, (b"vary", b"Accept, Authorization"))
IMMUTABLE: Headers = (*_SECURITY, (b"cache-control", b"public, max-age=31536000, immutable"))


class PageRenderer:
    """Renders the pages of one listener."""

    def __init__(self, context: HTTPContext, assets: Assets) -> None:
        self._assets = assets
        self._slots = Slots(PAGES_AT_ONCE, PATIENCE_SECONDS, context.clock, context.rest)

    async def in_turn(self, request: Request, title: str, inner: Callable[[], Element]) -> Response:
        """Render a page once no other one is being rendered. Raises TooBusy."""
        if request.method == b"HEAD":
            return await self.render(request, title, inner)
        async with self._slots.take():
            page = await self.render(request, title, inner)
        request.charge(page_cost(len(page.body)))
        return page

    async def render(
        self, request: Request, title: str, inner: Callable[[], Element], status: int = 200, reason: bytes = b"OK"
    ) -> Response:
        """Return a page; without its content, and so without its length, for HEAD (RFC 9110 section
        8.6).
        """
        if request.method == b"HEAD":
            return Response(status, b"", reason, PAGE, _HTML, is_length_known=False)
        page = await flattenString(None, PageFrame(self._assets, f"/{path_of(request).strip('/')}", title, inner()))
        return Response(status, b"<!DOCTYPE html>\n" + page, reason, PAGE, _HTML)
