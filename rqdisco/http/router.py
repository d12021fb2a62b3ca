"""The root of a site: the doors that are open on it, and which of them a path belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource, Resource

from rqdisco.backends.leader_monitor import LeaderMonitor
from rqdisco.core.directory import Directory
from rqdisco.core.leaders import Leaders
from rqdisco.http.api.admin import ClusterAdmin, OperatorAPI
from rqdisco.http.api.consul import ConsulAPI, with_consul_headers
from rqdisco.http.api.discovery import DiscoveryAPI
from rqdisco.http.api.event_streams import MOST_WATCHERS, EventStreams
from rqdisco.http.api.health import HealthPages
from rqdisco.http.middleware import Middleware
from rqdisco.http.openapi.page import NAME, OpenAPIPage
from rqdisco.http.requests.authorization import Authorizer
from rqdisco.http.requests.deadlines import Deadlines
from rqdisco.http.requests.responses import Refusal
from rqdisco.http.requests.runner import ApiRunner, RequestTelemetry
from rqdisco.http.server.throttling import CreationLimit
from rqdisco.http.ui.assets import read_assets
from rqdisco.http.ui.overview import Overview
from rqdisco.http.ui.pages import PageAbout, Pages
from rqdisco.probes.node_health import NodeHealth
from rqdisco.security.tokens import Access
from rqdisco.telemetry.answer_history import AnswerHistory
from rqdisco.telemetry.events import Events, log_event
from rqdisco.telemetry.health import Health

IMPORT_BYTES = 16 << 20


class Router(Resource):
    """Hands a request to the door that the first segment of its path names, if a slash follows; to
    the page that it names, if nothing else does; else to `rest`.
    """

    isLeaf = True  # noqa: N815, it is Twisted's

    def __init__(self, apis: Mapping[bytes, IResource], pages: Mapping[bytes, IResource], rest: IResource) -> None:
        super().__init__()
        self._apis = apis
        self._pages = pages
        self._rest = rest

    def render(self, request: Any) -> Any:
        name, slash, behind = request.path.lstrip(b"/").partition(b"/")
        if slash and name in self._apis:
            api = self._apis[name]
        else:
            api = self._rest if behind.strip(b"/") else self._pages.get(name, self._rest)
        return api.render(request)


class Apis:
    """Makes the resources of one daemon's sites, which share a directory and the deadlines of their
    requests.

    `max_body`, `strict` and `create_rate` (IDs a second for each client) are the operator's,
    `describe` gives the members of the answer to `GET /`, `health` judges the daemon. With `access`
    the public doors ask for tokens; the operator's never do. `metrics` is the page at `/metrics`
    for the operator, `node_health` what is seen of nodes, `leaders` notices IDs that have two.
    """

    def __init__(
        self,
        directory: Directory,
        deadlines: Deadlines,
        describe: Callable[[], dict[str, Any]],
        health: Health,
        clock: IReactorTime,
        wall_us: Callable[[], int],
        *,
        max_body: int,
        strict: bool,
        peers: ClusterAdmin | None = None,
        access: Access | None = None,
        telemetry: RequestTelemetry | None = None,
        metrics: IResource | None = None,
        node_health: NodeHealth | None = None,
        most_watchers: int = MOST_WATCHERS,
        zone: str | None = None,
        overview: Overview | None = None,
        create_rate: float = 0.0,
        leaders: LeaderMonitor | None = None,
    ) -> None:
        telemetry = RequestTelemetry(Events(log_event)) if telemetry is None else telemetry
        discovery = ApiRunner("discovery", telemetry, deadlines, Refusal.as_json, max_body=max_body, strict=strict)
        consul = ApiRunner(
            "consul",
            telemetry,
            deadlines,
            Refusal.as_text,
            max_body=max_body,
            too_large=f"Request body too large, max size: {max_body} bytes",
            strict=strict,
            finish=with_consul_headers(directory),
        )
        operator = ApiRunner("operator", telemetry, deadlines, Refusal.as_json, max_body=IMPORT_BYTES)
        measured = {} if metrics is None else {b"metrics": metrics}
        history = AnswerHistory(wall_us)
        creation_limit = CreationLimit(create_rate, clock.seconds)
        two: Callable[[str], Leaders | None] = _one_leader if leaders is None else leaders.of
        self.streams = EventStreams(directory, discovery, history, clock, most_watchers, node_health, two)
        if leaders is not None:
            leaders.subscribe(self.streams.look_again)
        assets = read_assets()
        status = None if overview is None else lambda: overview.look(len(self.streams))
        about = PageAbout(service=describe, peers=_states_of(peers), wall_us=wall_us, zone=zone, status=status)
        people = ApiRunner("pages", telemetry, deadlines, Refusal.as_json, max_body=0)

        def pages_of(authorizer: Authorizer | None, *, is_operators: bool = False) -> Pages:
            encode = self.streams.encode
            return Pages(assets, directory, people, about, encode, authorizer, is_operators=is_operators)

        operators = Router(
            {
                b"operator": OperatorAPI(directory, operator, clock, peers).resource(),
                b"v1": ConsulAPI(directory, consul, history, creation_limit).resource(),
            },
            {**HealthPages(health, discovery).resources(), **measured, NAME: OpenAPIPage("operator", discovery)},
            DiscoveryAPI(
                directory,
                discovery,
                describe,
                history,
                creation_limit,
                explains=True,
                node_health=node_health,
                two_leaders=two,
            ).resource(),
        )
        self._authorizer = None if access is None else Authorizer(access, clock.seconds, telemetry)
        apis: dict[bytes, IResource] = {
            b"v1": ConsulAPI(directory, consul, history, creation_limit, self._authorizer).resource()
        }
        if self._authorizer is not None:
            apis[b"operator"] = OperatorAPI(directory, operator, clock, peers, self._authorizer).resource()
        page = OpenAPIPage("open" if self._authorizer is None else "guarded", discovery)
        public = Router(
            apis,
            {**HealthPages(health, discovery, self._authorizer).resources(), NAME: page},
            DiscoveryAPI(
                directory,
                discovery,
                describe,
                history,
                creation_limit,
                authorizer=self._authorizer,
                node_health=node_health,
                two_leaders=two,
            ).resource(),
        )
        self._operators = Middleware(operators, self.streams, pages_of(None, is_operators=True))
        self._public = Middleware(
            public,
            self.streams,
            pages_of(self._authorizer),
            None if self._authorizer is None else self._authorizer.at(discovery.api),
        )

    def public(self) -> IResource:
        """What nodes and their operators ask; where tokens are asked for, all that there is."""
        return self._public

    def operators(self) -> IResource:
        """The same, and what only those may ask who operate this daemon."""
        return self._operators

    def may_send_more(self, headers: Headers) -> bool:
        """Whether who sends these headers to a public door may have a body of up to
        IMPORT_BYTES.
        """
        return self._authorizer is not None and self._authorizer.lets_administer(headers)


def _one_leader(_: str) -> None:
    """Where nobody watches leaders no ID has two."""


def _states_of(peers: ClusterAdmin | None) -> Callable[[], Sequence[tuple[str, str]]]:
    """What gives name and state of each daemon, this one first."""

    def states() -> Sequence[tuple[str, str]]:
        if peers is None:
            return ()
        shown = peers.show()
        return [(each.get("name", each.get("url", "")), each["state"]) for each in (shown, *shown["peers"])]

    return states
