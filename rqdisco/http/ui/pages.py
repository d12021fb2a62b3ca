"""The pages: which of them answers a request, and what it shows."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import msgspec
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from twisted.web.template import Element, flattenString

from rqdisco.core.errors import NotAuthenticated
from rqdisco.core.ids import is_id
from rqdisco.core.records import LONG_CLAIM_SECONDS
from rqdisco.core.views import View
from rqdisco.http.api.admin import ClusterAdmin
from rqdisco.http.api.event_streams import EventStreams
from rqdisco.http.context import HTTPContext
from rqdisco.http.requests.api import Api
from rqdisco.http.requests.authorization import Authorizer, secrets_in
from rqdisco.http.requests.costs import page_cost
from rqdisco.http.requests.documents import FullDocument, encode_object
from rqdisco.http.requests.request import Request
from rqdisco.http.requests.responses import Headers, NotFound, Refusal, Response, refusal_of
from rqdisco.http.requests.runner import ApiRunner, EventualResponse, Handler
from rqdisco.http.ui.assets import Assets
from rqdisco.http.ui.daemon_status import PeersView
from rqdisco.http.ui.elements import ClusterPage, ClusterView, HomePage, PageFrame, ProblemPage, TokenPage
from rqdisco.http.ui.formatting import duration
from rqdisco.http.ui.snippets import TARGETS, generations, snippets
from rqdisco.http.ui.status import StatusPage
from rqdisco.limits.slots import Slots
from rqdisco.security.tokens import Token

_HTML = b"text/html; charset=utf-8"
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?\Z")
_STALE_SECONDS = 10.0
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
_PAGE: Headers = (*_SECURITY, (b"vary", b"Accept, Authorization"))
# Not Basic: browsers would prompt for it in their own window, and remember the answer.
_CHALLENGE: Headers = ((b"www-authenticate", b'Bearer realm="rqdisco"'),)
_IMMUTABLE: Headers = (*_SECURITY, (b"cache-control", b"public, max-age=31536000, immutable"))

_HEADINGS = {
    403: "This token does not allow that",
    404: "Page not found",
    503: "Not available now",
}


class Pages(Api):
    """The pages of one listener. With `authorizer` they require a token; without it, `is_operators`
    states that only operators reach this site.
    """

    def __init__(
        self,
        context: HTTPContext,
        assets: Assets,
        runner: ApiRunner,
        streams: EventStreams,
        authorizer: Authorizer | None = None,
        *,
        is_operators: bool = False,
    ) -> None:
        super().__init__(runner, authorizer)
        self._context = context
        self._directory = context.directory
        self._assets = assets
        self._streams = streams
        self._is_operators = is_operators
        self._slots = Slots(PAGES_AT_ONCE, PATIENCE_SECONDS, context.clock, context.rest)

    def respond(self, request: Request, page: Handler) -> EventualResponse:
        """Start the response to a GET or HEAD: a page, or one that explains why there is none."""
        return self._runner.run(self._page(request, page))

    async def _page(self, request: Request, handler: Handler) -> Response:
        if self._authorizer is not None and not secrets_in(request):
            handler.close()
            return await self._token_form(request)
        try:
            return await handler
        except NotAuthenticated:
            return await self._token_form(request)
        except CancelledError:
            raise
        except Exception:
            refusal = refusal_of(Failure())
            text = refusal.text if refusal.detail is None else f"{refusal.text}: {refusal.detail}"
            heading = _HEADINGS.get(refusal.status, refusal.reason)
            response = await self._rendered(
                request, "", lambda: ProblemPage(self._assets, heading, text), refusal.status, refusal.reason.encode()
            )
            return msgspec.structs.replace(response, headers=(*response.headers, *_retry_after(refusal)))

    async def _token_form(self, request: Request) -> Response:
        page = await self._rendered(request, "", lambda: TokenPage(self._assets), 401, b"authentication required")
        return msgspec.structs.replace(page, headers=(*page.headers, *_CHALLENGE))

    async def home(self, request: Request) -> Response:
        """The page of the service."""
        # Where tokens are required, only admins see peers, as at /readyz.
        sees_peers = self._authorizer is None or self._authorizer.admit(request, "known").is_admin
        given = request.parameters().get(b"id")
        if given and is_id(name := given[-1].decode("utf-8", "replace").strip()):
            # The form was submitted without a script.
            return Response(303, b"", b"See Other", (*_PAGE, (b"location", f"/{name}".encode())), b"text/html")
        return await self._in_turn(
            request,
            "",
            lambda: HomePage(
                self._assets,
                self._context.describe(),
                _peer_states(self._context.cluster_admin) if sees_peers else (),
            ),
        )

    async def status(self, request: Request) -> Response:
        """The state of the daemon."""
        collector = self._context.status
        if collector is None:
            raise NotFound
        is_operator = self._is_operators
        if self._authorizer is not None:
            is_operator = self._authorizer.admit(request, "admin").is_admin
        view = collector.collect(len(self._streams))
        return await self._in_turn(request, "Status", lambda: StatusPage(self._assets, view, is_operator=is_operator))

    async def cluster(self, request: Request, discovery_id: str) -> Response:
        """The page of an ID."""
        if self._authorizer is not None:
            self._authorizer.admit(request, "read", discovery_id)
        if not is_id(discovery_id):
            raise NotFound("not a valid discovery ID")
        record = await self._directory.look_up(discovery_id)
        return await self._in_turn(request, record.id, lambda: self._cluster_page(request, record))

    def _cluster_page(self, request: Request, record: View) -> ClusterPage:
        data = self._streams.encode(record)
        document = msgspec.json.decode(data, type=FullDocument)
        given = request.parameters().get(b"url")
        url = _own_url(request) if not given else given[-1].decode("utf-8", "replace").strip()
        view = ClusterView(
            id=record.id,
            data=data,
            has_claim=record.claimed > 0,
            nodes=document.registrations,
            two_leaders=document.two_leaders or (),
            notes=self._notes(record),
            is_claim_overdue=record.claimed > 0 and self._seconds_since(record.claimed_since) > LONG_CLAIM_SECONDS,
            url=url,
            is_guess=not given,
            generations=generations(self._context.zone),
            targets=TARGETS,
            snippets=snippets(record.id, url, self._context.zone, requires_token=self._authorizer is not None),
        )
        return ClusterPage(self._assets, view)

    def _seconds_since(self, milliseconds: int) -> float:
        return self._context.wall_us() / 1_000_000 - milliseconds / 1000

    def _notes(self, record: View) -> list[str]:
        notes = []
        if not self._directory.has_owner(record):
            notes.append(
                "This ID has no owner: nodes are listed, added and removed, but none is told to bootstrap."
                " Create a new ID for a new cluster."
            )
        age = self._directory.age(record)
        if age is None:
            notes.append("The owner of this ID has not answered since this daemon started: the list may be outdated.")
        elif age > _STALE_SECONDS:
            notes.append(f"The owner of this ID last answered {duration(age)} ago: the list may be outdated.")
        return notes

    async def file(self, request: Request, name: str, token: Token | None) -> Response:
        """A static file."""
        path = f"/static/{name}"
        asset = self._assets.files.get(path.removeprefix(self._assets.path))
        if asset is None or not path.startswith(self._assets.path):
            return Response(404, encode_object({"error": "no such file"}), b"Not Found")
        content, kind = asset
        return Response(200, content, headers=_IMMUTABLE, content_type=kind)

    async def _in_turn(self, request: Request, title: str, inner: Callable[[], Element]) -> Response:
        """Render a page once no other one is being rendered. Raises TooBusy."""
        if request.method == b"HEAD":
            return await self._rendered(request, title, inner)
        async with self._slots.take():
            page = await self._rendered(request, title, inner)
        request.charge(page_cost(len(page.body)))
        return page

    async def _rendered(
        self, request: Request, title: str, inner: Callable[[], Element], status: int = 200, reason: bytes = b"OK"
    ) -> Response:
        """Return a page; without its content, and so without its length, for HEAD (RFC 9110 section
        8.6).
        """
        if request.method == b"HEAD":
            return Response(status, b"", reason, _PAGE, _HTML, is_length_known=False)
        page = await flattenString(None, PageFrame(self._assets, title, inner()))
        return Response(status, b"<!DOCTYPE html>\n" + page, reason, _PAGE, _HTML)


def _retry_after(refusal: Refusal) -> Headers:
    return tuple(header for header in refusal.headers if header[0] == b"retry-after")


def _peer_states(cluster_admin: ClusterAdmin | None) -> Sequence[tuple[str, str]]:
    """The name and state of each daemon, this one first; nothing without peers."""
    if cluster_admin is None:
        return ()
    view = msgspec.convert(cluster_admin.show(), PeersView)
    return [(view.label(view) or "", view.state), *((view.label(peer) or peer.url, peer.state) for peer in view.peers)]


def prefers_html(accept: str) -> bool:
    """Report whether an Accept header (RFC 9110 section 12.5.1) names HTML, and prefers it to
    JSON.
    """
    weights = {"text/html": 0.0, "application/json": 0.0}
    for each in accept.split(","):
        kind, _, parameters = each.strip().lower().partition(";")
        if (kind := kind.strip()) in weights:
            weights[kind] = max(weights[kind], _weight(parameters))
    return weights["text/html"] > weights["application/json"]


def _weight(parameters: str) -> float:
    for each in parameters.split(";"):
        name, _, value = each.strip().partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def _own_url(request: Request) -> str:
    """The service's URL, as far as the request shows it."""
    host = (request.header(b"host") or b"").decode("latin-1")
    if not _HOST.match(host):
        host = "localhost:4000"
    return f"{'https' if request.connection.is_secure else 'http'}://{host}"
