"""The pages: which of them answers a request, and what it shows."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from rqdisco.core.errors import NoSuchID, NotAuthenticated, UnknownCreatedID
from rqdisco.core.ids import is_id, name_objection
from rqdisco.core.verdicts import Health
from rqdisco.core.views import View
from rqdisco.http.api.admin import ClusterAdmin
from rqdisco.http.api.cluster_search import ClusterSearch
from rqdisco.http.api.clusters import cluster_query
from rqdisco.http.api.event_streams import EventStreams
from rqdisco.http.context import HTTPContext
from rqdisco.http.requests.api import Api
from rqdisco.http.requests.authorization import Authorizer, secrets_in
from rqdisco.http.requests.documents import FullDocument, encode_object
from rqdisco.http.requests.request import Request
from rqdisco.http.requests.responses import Headers, NotFound, Refusal, Response, refusal_of
from rqdisco.http.requests.runner import ApiRunner, EventualResponse, Handler
from rqdisco.http.ui.api_page import ApiGroup, ApiPage
from rqdisco.http.ui.assets import Assets
from rqdisco.http.ui.cluster import ClusterPage, ClusterView
from rqdisco.http.ui.clusters import ClustersPage, ClustersView
from rqdisco.http.ui.daemon_status import PeersView
from rqdisco.http.ui.elements import HelpPage, HomePage, ProblemPage, TokenPage, UnknownIDPage
from rqdisco.http.ui.formatting import duration, sentence
from rqdisco.http.ui.pasted import pasted_id
from rqdisco.http.ui.rendering import IMMUTABLE, PAGE, PageRenderer
from rqdisco.http.ui.start_node import StartView
from rqdisco.http.ui.status import StatusPage
from rqdisco.security.tokens import Token

_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?\Z")
_STALE_SECONDS = 10.0
# Not Basic: browsers would prompt for it in their own window, and remember the answer.
_CHALLENGE: Headers = ((b"www-authenticate", b'Bearer realm="rqdisco"'),)

_HEADINGS = {
    403: "This token does not allow that",
    404: "Page not found",
    503: "Not available now",
}


class PageSources(msgspec.Struct, frozen=True):
    """The sources of the pages of a listener; `groups` are the operations of its API."""

    assets: Assets
    streams: EventStreams
    search: ClusterSearch
    groups: Sequence[ApiGroup]


class Pages(Api):
    """The pages of one listener. With `authorizer` they require a token; without it, `is_operators`
    states that only operators reach this site.
    """

    def __init__(
        self,
        context: HTTPContext,
        sources: PageSources,
        runner: ApiRunner,
        authorizer: Authorizer | None = None,
        *,
        is_operators: bool = False,
    ) -> None:
        super().__init__(runner, authorizer)
        self._context = context
        self._directory = context.directory
        self._assets = sources.assets
        self._streams = sources.streams
        self._search = sources.search
        self._groups = sources.groups
        self._is_operators = is_operators
        self._renderer = PageRenderer(context, sources.assets)

    def respond(self, request: Request, page: Handler, *, is_public: bool = False) -> EventualResponse:
        """Start the response to a GET or HEAD: a page, or one that explains why there is none. A
        page that `is_public` needs no token.
        """
        if self._authorizer is not None and not is_public and not secrets_in(request):
            page.close()
            return self._runner.run(self._token_form(request))
        return self._runner.run(self.explain(request, page))

    async def explain(self, request: Request, handler: Handler) -> Response:
        """Return a handler's response, or a page that explains its exception."""
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
            page = ProblemPage(self._assets, refusal.status, heading, text)
            response = await self._renderer.render(request, "", lambda: page, refusal.status, refusal.reason.encode())
            return msgspec.structs.replace(response, headers=(*response.headers, *_kept(refusal)))

    async def _token_form(self, request: Request) -> Response:
        page = await self._renderer.render(
            request, "", lambda: TokenPage(self._assets), 401, b"authentication required"
        )
        return msgspec.structs.replace(page, headers=(*page.headers, *_CHALLENGE))

    async def home(self, request: Request) -> Response:
        """The page of the service."""
        # Where tokens are required, only admins see peers, as at /readyz.
        sees_peers = self._authorizer is None or self._authorizer.admit(request, "known").is_admin
        given = _last(request, b"id")
        name = None if given is None else pasted_id(given)
        if name is not None:
            return Response(303, b"", b"See Other", (*PAGE, (b"location", f"/{name}".encode())), b"text/html")
        problem = f"There is no discovery ID in “{given[:200]}”." if given else None
        return await self._renderer.in_turn(
            request,
            "",
            lambda: HomePage(
                self._assets,
                self._context.describe(),
                _peer_states(self._context.cluster_admin) if sees_peers else (),
                problem,
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
        return await self._renderer.in_turn(
            request, "Status", lambda: StatusPage(self._assets, view, is_operator=is_operator)
        )

    async def clusters(self, request: Request) -> Response:
        """The IDs, page by page, for operators; others can open one that they know."""
        query = cluster_query(request)
        is_operator = self._is_operators if self._authorizer is None else self._authorizer.lets_administer(request)
        if self._authorizer is not None:
            self._authorizer.admit(request, "known")
        view = ClustersView(query, await self._search.find(query) if is_operator else None)
        return await self._renderer.in_turn(request, "Clusters", lambda: ClustersPage(self._assets, view))

    async def help(self, request: Request) -> Response:
        """The guide."""
        return await self._renderer.in_turn(request, "Docs", lambda: HelpPage(self._assets))

    async def api(self, request: Request) -> Response:
        """The paths of the API."""
        return await self._renderer.in_turn(
            request, "API", lambda: ApiPage(self._assets, self._groups, _own_url(request))
        )

    async def cluster(self, request: Request, discovery_id: str) -> Response:
        """The page of an ID."""
        if self._authorizer is not None:
            self._authorizer.admit(request, "read", discovery_id)
        if not is_id(discovery_id):
            what = "a valid discovery ID" if "/" not in discovery_id else "a path of this service"
            raise NotFound(f"{discovery_id[:200]} is not {what}")
        try:
            record = await self._directory.look_up(discovery_id)
        except NoSuchID as error:
            return await self._unknown_id(request, discovery_id, error)
        return await self._renderer.in_turn(request, record.id, lambda: self._cluster_page(request, record))

    async def _unknown_id(self, request: Request, discovery_id: str, error: NoSuchID) -> Response:
        objection = self._objection(request, discovery_id)
        text = sentence(error.why) if isinstance(error, UnknownCreatedID) else "This ID does not exist, or was deleted."
        page = UnknownIDPage(self._assets, discovery_id, text, objection)
        return await self._renderer.render(request, discovery_id, lambda: page, 404, b"no such discovery ID")

    def _objection(self, request: Request, name: str) -> str | None:
        """Return why the visitor cannot create an ID of this name, None if that is possible."""
        if self._authorizer is not None and not self._authorizer.allows(request, "mint", name):
            return "Your token may not create IDs: it needs the scope mint."
        if name_objection(name) is None:
            return None
        return "Only a daemon makes up IDs of this form: create a new one, or choose a name, on the home page."

    def _cluster_page(self, request: Request, record: View) -> ClusterPage:
        data = self._streams.encode(record)
        document = msgspec.json.decode(data, type=FullDocument)
        given = _last(request, b"url")
        start = StartView(
            id=record.id,
            url=_own_url(request) if given is None else given,
            is_guess=given is None,
            nodes=len(document.nodes),
            is_first=document.health.verdict is Health.FORMING,
            zone=self._context.zone,
            requires_token=self._authorizer is not None,
            is_local_only=self._context.is_local_only(),
        )
        view = ClusterView(
            id=record.id,
            data=data,
            health=document.health,
            nodes=document.registrations,
            warnings=document.warnings,
            notes=self._notes(record),
            start=start,
        )
        return ClusterPage(self._assets, view)

    def _notes(self, record: View) -> list[str]:
        notes = []
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
        return Response(200, content, headers=IMMUTABLE, content_type=kind)


def _kept(refusal: Refusal) -> Headers:
    """The headers of a refusal that its page has, too."""
    return tuple(header for header in refusal.headers if header[0] in (b"retry-after", b"allow"))


def _last(request: Request, name: bytes) -> str | None:
    """The last value of a parameter, None if it is not there or empty."""
    given = request.parameters().get(name)
    return given[-1].decode("utf-8", "replace").strip() or None if given else None


def _peer_states(cluster_admin: ClusterAdmin | None) -> Sequence[tuple[str, str]]:
    """The name and state of each daemon, this one first; nothing without peers."""
    if cluster_admin is None:
        return ()
    view = msgspec.convert(cluster_admin.show(), PeersView)
    return [(view.label(view) or "", view.state), *((view.label(peer) or peer.url, peer.state) for peer in view.peers)]


def _own_url(request: Request) -> str:
    """The service's URL, as far as the request shows it."""
    host = (request.header(b"host") or b"").decode("latin-1")
    if not _HOST.match(host):
        host = "localhost:4000"
    return f"{'https' if request.connection.is_secure else 'http'}://{host}"
