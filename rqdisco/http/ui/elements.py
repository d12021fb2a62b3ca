"""The pages as elements of twisted.web.template, which escapes what is put into it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from twisted.web.iweb import IRequest
from twisted.web.template import Element, Tag, renderer, tags

from rqdisco import __version__
from rqdisco.core.records import LONG_CLAIM_SECONDS
from rqdisco.http.requests.documents import ServiceInfo
from rqdisco.http.ui.assets import Assets
from rqdisco.http.ui.formatting import DAY, count, duration, visible_spaces
from rqdisco.http.ui.snippets import Snippet

Shown = Iterator[Any] | Sequence[Any]
# A thousand rows take the server 60 ms, in which nobody else is answered; the script makes the
# others.
MOST_ROWS = 200
_STATES = {
    "up": "answers",
    "fenced": "decides nothing",
    "silent": "does not answer",
    "established": "this one",
    "never met": "was never met",
}


class PageFrame(Element):
    """What is around every page; `inner` is a page's own element, `title` what it is called."""

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
    """What this is, and how the service is; `peers` are the name and state of each daemon, this one
    first.
    """

    def __init__(self, assets: Assets, info: ServiceInfo, peers: Sequence[tuple[str, str]]) -> None:
        super().__init__(loader=assets.templates["home"])
        self._info = info
        self._peers = peers

    @renderer
    def facts(self, _: IRequest, tag: Tag) -> Tag:
        return tag

    @renderer
    def fact(self, _: IRequest, tag: Tag) -> Shown:
        info = self._info
        facts = {"Version": info.version, "Up for": duration(info.uptime)}
        if info.ids is not msgspec.UNSET:
            facts["Discovery IDs"] = f"{info.ids:,}"
        if info.unused_days is not msgspec.UNSET:
            facts["IDs without a node"] = f"forgotten after {duration(info.unused_days * DAY)}"
        return [tag.clone().fillSlots(name=name, value=value) for name, value in facts.items()]

    @renderer
    def peers(self, _: IRequest, tag: Tag) -> Tag | str:
        return tag if self._peers else ""

    @renderer
    def peer(self, _: IRequest, tag: Tag) -> Shown:
        return [
            tag.clone().fillSlots(
                name=visible_spaces(name),
                state="up" if state == "established" else state,
                words=_STATES.get(state, state),
            )
            for name, state in self._peers
        ]


class ClusterView(msgspec.Struct, frozen=True, kw_only=True):
    """All that the page of an ID shows. `data` is the record as its watchers get it, `url` is the
    service's; with `is_claim_overdue` a claim has waited for its leader's first report for long.

    `has_claim` says that a claim waits at all. `two_leaders` are the addresses of two that both
    report themselves, if there are. `is_guess` says that the URL is taken from the request, which
    may have come through a proxy.
    """

    id: str
    data: bytes
    has_claim: bool
    nodes: Sequence[Mapping[str, Any]]
    two_leaders: Sequence[str]
    notes: Sequence[str]
    is_claim_overdue: bool
    url: str
    is_guess: bool
    generations: Sequence[str]
    targets: Sequence[tuple[str, str]]
    snippets: Sequence[Snippet]


class ClusterPage(Element):
    """One ID: its nodes, and the flags for more of them. The picture is the script's."""

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
        return tag(*map(visible_spaces, self._view.two_leaders[:1]))

    @renderer
    def other_leader(self, _: IRequest, tag: Tag) -> Tag:
        return tag(*map(visible_spaces, self._view.two_leaders[1:]))

    @renderer
    def notes(self, _: IRequest, tag: Tag) -> Shown:
        return [tag.clone().fillSlots(note=note) for note in self._view.notes]

    @renderer
    def claim(self, _: IRequest, tag: Tag) -> Tag:
        # The script shows it when the time comes, and hides it again.
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
        return tag([self._node(node) for node in self._view.nodes[:MOST_ROWS]])

    @renderer
    def rest(self, _: IRequest, tag: Tag) -> Tag | str:
        more = len(self._view.nodes) - MOST_ROWS
        return tag(f"{count(more, 'more node')}: `rqdisco show` prints all of them.") if more > 0 else ""

    @renderer
    def url(self, _: IRequest, tag: Tag) -> Tag:
        return tag(value=self._view.url)

    @renderer
    def generations(self, _: IRequest, tag: Tag) -> Shown:
        return _choices("gen", [(str(number), name) for number, name in enumerate(self._view.generations)])

    @renderer
    def targets(self, _: IRequest, tag: Tag) -> Shown:
        return _choices("for", self._view.targets)

    @renderer
    def recipes(self, _: IRequest, tag: Tag) -> Shown:
        return [self._snippet(snippet) for snippet in self._view.snippets]

    def _node(self, node: Mapping[str, Any]) -> Tag:
        first = tags.td(tags.bdi(visible_spaces(node["addr"]), class_="addr"))
        if node.get("leader"):
            first(tags.span("leader", class_="tag leader"))
        if node.get("alone"):
            first(tags.span("told it is alone", class_="tag alone"))
        if node.get("up") is False:
            first(tags.span("does not answer", class_="tag down"))
        if node.get("unresolved"):
            first(tags.span("name does not resolve", class_="tag unresolved"))
        cells = [tags.td(visible_spaces(node.get(name) or ""), class_="mono") for name in ("raft_addr", "node_id")]
        return tags.tr(first, *cells, tags.td(node.get("heard", ""), class_="quiet small"), tags.td())

    def _snippet(self, snippet: Snippet) -> Tag:
        figure = tags.div(class_="recipe", **{"data-gen": str(snippet.generation), "data-for": snippet.target})
        if snippet.trouble:
            return figure(tags.p(snippet.trouble, class_="note"))
        name = f"recipe-{snippet.generation}-{snippet.target}"
        label = f" the flags for {self._view.generations[snippet.generation]}"
        copy = tags.button("Copy", tags.span(label, class_="unseen"), type="button", class_="slight")
        notes = tags.ul([tags.li(note) for note in snippet.notes]) if snippet.notes else ""
        return figure(tags.pre(snippet.text, id=name), copy(**{"data-copy": name}), notes)


class TokenPage(Element):
    """Asks for a token."""

    def __init__(self, assets: Assets) -> None:
        super().__init__(loader=assets.templates["token"])


class ProblemPage(Element):
    """Says why there is no such page."""

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


def _choices(name: str, choices: Sequence[tuple[str, str]]) -> Iterator[Any]:
    """Radio buttons, the first of which is chosen."""
    for number, (value, label) in enumerate(choices):
        field = tags.input(type="radio", name=name, id=f"{name}-{value}", value=value)
        if number == 0:
            field(checked="checked")
        yield field
        yield tags.label(label, **{"for": f"{name}-{value}"})
