"""The pages as elements of twisted.web.template, which escapes the values in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec
from twisted.web.iweb import IRequest
from twisted.web.template import Element, Tag, renderer, tags

from rqdisco import __version__
from rqdisco.core.records import LONG_CLAIM_SECONDS
from rqdisco.http.requests.documents import RegisteredNode, ServiceDocument
from rqdisco.http.ui.assets import Assets
from rqdisco.http.ui.formatting import DAY, count, duration, escape_invisible
from rqdisco.http.ui.snippets import Snippet

# Rendering a thousand rows blocks the server for 60 ms; the script adds the others.
MAX_ROWS = 200
_STATES = {
    "up": "up",
    "fenced": "fenced, decides nothing",
    "silent": "unreachable",
    "established": "this daemon",
    "never met": "never reached",
}


class PageFrame(Element):
    """The frame around every page's own element, `inner`."""

    def __init__(self, assets: Assets, title: str, inner: Element) -> None:
        super().__init__(loader=assets.templates["frame"])
        self._assets = assets
        self._title = title
        self._inner = inner

    @renderer
    def title(self, _: IRequest, tag: Tag) -> Tag:
        return tag(f"{self._title} · rqdisco" if self._title else "rqdisco")

    @renderer
    def icon(self, _: IRequest, tag: Tag) -> Tag:
        return tag(href=f"{self._assets.path}icon.svg")

    @renderer
    def mark(self, _: IRequest, tag: Tag) -> Tag:
        return tag(src=f"{self._assets.path}icon.svg")

    @renderer
    def style(self, _: IRequest, tag: Tag) -> Tag:
        return tag(href=f"{self._assets.path}page.css")

    @renderer
    def script(self, _: IRequest, tag: Tag) -> Tag:
        return tag(src=f"{self._assets.path}page.js")

    @renderer
    def main(self, _: IRequest, tag: Tag) -> Element:
        return self._inner

    @renderer
    def about(self, _: IRequest, tag: Tag) -> str:
        return f"rqdisco {__version__}, the discovery service for rqlite"


class HomePage(Element):
    """An introduction, and the state of the service; `peers` are the name and state of each daemon,
    this one first.
    """

    def __init__(self, assets: Assets, info: ServiceDocument, peers: Sequence[tuple[str, str]]) -> None:
        super().__init__(loader=assets.templates["home"])
        self._info = info
        self._peers = peers

    @renderer
    def facts(self, _: IRequest, tag: Tag) -> Tag:
        return tag

    @renderer
    def fact(self, _: IRequest, tag: Tag) -> Iterable[Tag]:
        info = self._info
        facts = {"Version": info.version, "Up for": duration(info.uptime)}
        if info.ids is not msgspec.UNSET:
            facts["Discovery IDs"] = f"{info.ids:,}"
        if info.unused_days is not msgspec.UNSET:
            facts["IDs without a node"] = f"deleted after {duration(info.unused_days * DAY)}"
        return [tag.clone().fillSlots(name=name, value=value) for name, value in facts.items()]

    @renderer
    def peers(self, _: IRequest, tag: Tag) -> Tag | str:
        return tag if self._peers else ""

    @renderer
    def peer(self, _: IRequest, tag: Tag) -> Iterable[Tag]:
        return [
            tag.clone().fillSlots(
                name=escape_invisible(name),
                state="up" if state == "established" else state,
                words=_STATES.get(state, state),
            )
            for name, state in self._peers
        ]


class ClusterView(msgspec.Struct, frozen=True, kw_only=True):
    """The content of an ID's page. `data` is the record as watchers receive it, `url` is the
    service's.

    `has_claim` is set if a claim waits for its leader's first report, `is_claim_overdue` if it has
    waited for long. `two_leaders` are the addresses of two leaders that both report themselves, if
    any. `is_guess` is set if the URL is taken from the request, which may have come through a
    proxy.
    """

    id: str
    data: bytes
    has_claim: bool
    nodes: Sequence[RegisteredNode]
    two_leaders: Sequence[str]
    notes: Sequence[str]
    is_claim_overdue: bool
    url: str
    is_guess: bool
    generations: Sequence[str]
    targets: Sequence[tuple[str, str]]
    snippets: Sequence[Snippet]


class ClusterPage(Element):
    """One ID: its nodes, and the flags for more of them. The script draws the picture."""

    def __init__(self, assets: Assets, view: ClusterView) -> None:
        super().__init__(loader=assets.templates["cluster"])
        self._view = view

    @renderer
    def main(self, _: IRequest, tag: Tag) -> Tag:
        data = {"data-id": self._view.id, "data-record": self._view.data.decode()}
        if self._view.is_guess:
            data["data-guess"] = self._view.url
        return tag(**data)

    @renderer
    def id(self, _: IRequest, tag: Tag) -> str:
        return self._view.id

    @renderer
    def count(self, _: IRequest, tag: Tag) -> str:
        return count(len(self._view.nodes), "node")

    @renderer
    def two_leaders(self, _: IRequest, tag: Tag) -> Tag:
        return tag if self._view.two_leaders else tag(hidden="hidden")

    @renderer
    def one_leader(self, _: IRequest, tag: Tag) -> Tag:
        return tag(*map(escape_invisible, self._view.two_leaders[:1]))

    @renderer
    def other_leader(self, _: IRequest, tag: Tag) -> Tag:
        return tag(*map(escape_invisible, self._view.two_leaders[1:]))

    @renderer
    def notes(self, _: IRequest, tag: Tag) -> Iterable[Tag]:
        return [tag.clone().fillSlots(note=note) for note in self._view.notes]

    @renderer
    def claim(self, _: IRequest, tag: Tag) -> Tag:
        # The script shows and hides it later.
        shown = tag if self._view.is_claim_overdue else tag(hidden="hidden")
        return shown(**{"data-long": f"{LONG_CLAIM_SECONDS:g}"}).fillSlots(id=self._view.id)

    @renderer
    def first(self, _: IRequest, tag: Tag) -> Tag:
        return tag(hidden="hidden") if self._view.has_claim else tag

    @renderer
    def table(self, _: IRequest, tag: Tag) -> Tag:
        return tag if self._view.nodes else tag(hidden="hidden")

    @renderer
    def nodes(self, _: IRequest, tag: Tag) -> Tag:
        return tag([self._node(node) for node in self._view.nodes[:MAX_ROWS]])

    @renderer
    def rest(self, _: IRequest, tag: Tag) -> Tag | str:
        more = len(self._view.nodes) - MAX_ROWS
        return tag(f"{count(more, 'more node')}: `rqdisco show` prints all of them.") if more > 0 else ""

    @renderer
    def url(self, _: IRequest, tag: Tag) -> Tag:
        return tag(value=self._view.url)

    @renderer
    def generations(self, _: IRequest, tag: Tag) -> Iterable[Tag]:
        return _choices("gen", [(str(number), name) for number, name in enumerate(self._view.generations)])

    @renderer
    def targets(self, _: IRequest, tag: Tag) -> Iterable[Tag]:
        return _choices("for", self._view.targets)

    @renderer
    def recipes(self, _: IRequest, tag: Tag) -> Iterable[Tag]:
        return [self._snippet(snippet) for snippet in self._view.snippets]

    def _node(self, node: RegisteredNode) -> Tag:
        first = tags.td(tags.bdi(escape_invisible(node.addr), class_="addr"))
        if node.leader:
            first(tags.span("leader", class_="tag leader"))
        if node.alone:
            first(tags.span("told to bootstrap", class_="tag alone"))
        if node.up is False:
            first(tags.span("does not answer", class_="tag down"))
        if node.unresolved:
            first(tags.span("name does not resolve", class_="tag unresolved"))
        cells = [tags.td(escape_invisible(text or ""), class_="mono") for text in (node.raft_addr, node.node_id)]
        return tags.tr(first, *cells, tags.td(node.heard or "", class_="quiet small"), tags.td())

    def _snippet(self, snippet: Snippet) -> Tag:
        figure = tags.div(class_="recipe", **{"data-gen": str(snippet.generation), "data-for": snippet.target})
        if snippet.error:
            return figure(tags.p(snippet.error, class_="note"))
        name = f"recipe-{snippet.generation}-{snippet.target}"
        label = f" the flags for {self._view.generations[snippet.generation]}"
        copy = tags.button("Copy", tags.span(label, class_="visually-hidden"), type="button", class_="slight")
        notes = tags.ul([tags.li(note) for note in snippet.notes]) if snippet.notes else ""
        return figure(tags.pre(snippet.text, id=name), copy(**{"data-copy": name}), notes)


class TokenPage(Element):
    """A form for a token."""

    def __init__(self, assets: Assets) -> None:
        super().__init__(loader=assets.templates["token"])


class ProblemPage(Element):
    """An explanation why there is no page."""

    def __init__(self, assets: Assets, heading: str, text: str) -> None:
        super().__init__(loader=assets.templates["problem"])
        self._heading = heading
        self._text = text

    @renderer
    def heading(self, _: IRequest, tag: Tag) -> Tag:
        return tag(self._heading)

    @renderer
    def text(self, _: IRequest, tag: Tag) -> Tag:
        return tag(self._text)


def _choices(name: str, choices: Sequence[tuple[str, str]]) -> Iterator[Tag]:
    """Radio buttons; the first is checked."""
    for number, (value, label) in enumerate(choices):
        field = tags.input(type="radio", name=name, id=f"{name}-{value}", value=value)
        if number == 0:
            field(checked="checked")
        yield field
        yield tags.label(label, **{"for": f"{name}-{value}"})
