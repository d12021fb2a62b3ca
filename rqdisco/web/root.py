"""The root of a site: the doors that are open on it, and which of them a path belongs to."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource, Resource

from rqdisco.access import Access
from rqdisco.directory import Directory
from rqdisco.events import Events, log_event
from rqdisco.health import Health
from rqdisco.probing.outlook import Outlook
from rqdisco.told import ToldLog
from rqdisco.web.answers import Refusal
from rqdisco.web.consul import ConsulAPI, with_consul_headers
from rqdisco.web.deadlines import Deadlines
from rqdisco.web.discovery import DiscoveryAPI
from rqdisco.web.gate import Gate
from rqdisco.web.handling import Books, Handling
from rqdisco.web.health import HealthPages
from rqdisco.web.operator import OperatorAPI, PeersOffice
from rqdisco.web.pacing import MintLimit

IMPORT_BYTES = 16 << 20
_FIRST = re.compile(rb"/+([a-z0-9]+)(?![^/])")


class Root(Resource):
    """Hands a request to the door that the first segment of its path names, if a slash follows; to the page that it
    names, if nothing else does; else to `rest`.
    """

    isLeaf = True  # noqa: N815, it is Twisted's

    def __init__(self, doors: Mapping[bytes, IResource], pages: Mapping[bytes, IResource], rest: IResource) -> None:
        super().__init__()
        self._doors = doors
        self._pages = pages
        self._rest = rest

    def render(self, request: Any) -> Any:
        # Minted IDs have a hyphen where a name would have to end.
        match = _FIRST.match(request.path)
        door = self._rest if match is None else self._named(match[1], request.path[match.end() :])
        return door.render(request)

    def _named(self, name: bytes, behind: bytes) -> IResource:
        if behind and name in self._doors:
            return self._doors[name]
        return self._rest if behind.strip(b"/") else self._pages.get(name, self._rest)


class Doors:
    """Makes the resources of one daemon's sites, which share a directory and the deadlines of their requests.

    `max_body`, `strict` and `mint_rate` (IDs a second for each client) are the operator's, `describe` gives the members
    of the answer to `GET /`, `health` judges the daemon. With `access` the public doors ask for tokens; the operator's
    never do. `metrics` is the page at `/metrics` for the operator, `outlook` what is seen of
    nodes.
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
        peers: PeersOffice | None = None,
        access: Access | None = None,
        books: Books | None = None,
        metrics: IResource | None = None,
        outlook: Outlook | None = None,
        mint_rate: float = 0.0,
    ) -> None:
        books = Books(Events(log_event)) if books is None else books
        discovery = Handling("discovery", books, deadlines, Refusal.as_json, max_body=max_body, strict=strict)
        consul = Handling(
            "consul",
            books,
            deadlines,
            Refusal.as_text,
            max_body=max_body,
            too_large=f"Request body too large, max size: {max_body} bytes",
            strict=strict,
            finish=with_consul_headers(directory),
        )
        operator = Handling("operator", books, deadlines, Refusal.as_json, max_body=IMPORT_BYTES)
        pages = HealthPages(health, discovery).resources()
        told = ToldLog(wall_us)
        mints = MintLimit(mint_rate, clock.seconds)
        self._operators = Root(
            {
                b"operator": OperatorAPI(directory, operator, clock, peers).resource(),
                b"v1": ConsulAPI(directory, consul, told, mints).resource(),
            },
            pages if metrics is None else {**pages, b"metrics": metrics},
            DiscoveryAPI(directory, discovery, describe, told, mints, explains=True, outlook=outlook).resource(),
        )
        self._gate = None if access is None else Gate(access, clock.seconds)
        doors: dict[bytes, IResource] = {b"v1": ConsulAPI(directory, consul, told, mints, self._gate).resource()}
        if self._gate is not None:
            doors[b"operator"] = OperatorAPI(directory, operator, clock, peers, self._gate).resource()
        self._public = Root(
            doors,
            pages,
            DiscoveryAPI(directory, discovery, describe, told, mints, gate=self._gate, outlook=outlook).resource(),
        )

    def public(self) -> IResource:
        """What nodes and their operators ask; where tokens are asked for, all that there is."""
        return self._public

    def operators(self) -> IResource:
        """The same, and what only those may ask who operate this daemon."""
        return self._operators

    def may_send_more(self, headers: Headers) -> bool:
        """Whether who sends these headers to a public door may have a body of up to IMPORT_BYTES."""
        return self._gate is not None and self._gate.lets_administer(headers)
