"""The page of one ID: the verdict about its cluster, its nodes, and how to start them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from twisted.web.iweb import IRequest
from twisted.web.template import Element, Tag, renderer, tags

from rqdisco.core.address_warnings import AddressWarning
from rqdisco.core.plurals import counted
from rqdisco.core.verdicts import NOTHING_TO_DO, Health
from rqdisco.http.requests.documents import HealthDocument, RegisteredNode
from rqdisco.http.ui.assets import Assets
from rqdisco.http.ui.elements import PageOfID
from rqdisco.http.ui.formatting import escape_invisible, sentence, with_code
from rqdisco.http.ui.start_node import StartNode, StartView

# Rendering a thousand rows blocks the server for 60 ms; the script adds the others.
MAX_ROWS = 200


class ClusterView(msgspec.Struct, frozen=True, kw_only=True):
    """The content of an ID's page. `data` is the record as watchers receive it; `notes` are what
    else an operator should know of the ID.
    """

    id: str
    data: bytes
    health: HealthDocument
    nodes: Sequence[RegisteredNode]
    warnings: Sequence[AddressWarning]
    notes: Sequence[str]
    start: StartView


class ClusterPage(PageOfID):
    """One ID. What comes first is what has to be done: the start of its nodes, or a look at them."""

    def __init__(self, assets: Assets, view: ClusterView) -> None:
        super().__init__(loader=assets.templates["cluster"])
        self._assets = assets
        self._view = view

    @renderer
    def main(self, _: IRequest, tag: Tag) -> Tag:
        data = {"data-id": self._view.id, "data-record": self._view.data.decode()}
        if self._view.start.is_guess:
            data["data-guess"] = self._view.start.url
        return tag(**data)

    @renderer
    def id(self, _: IRequest, tag: Tag) -> str:
        return self._view.id

    @renderer
    def count(self, _: IRequest, tag: Tag) -> str:
        return counted(len(self._view.nodes), "node")

    @renderer
    def verdict(self, _: IRequest, tag: Tag) -> Tag:
        return tag(**{"data-health": self._view.health.verdict.value})

    @renderer
    def health(self, _: IRequest, tag: Tag) -> Tag:
        return tag(self._view.health.verdict.value, **{"data-health": self._view.health.verdict.value})

    @renderer
    def reason(self, _: IRequest, tag: Tag) -> Tag:
        return tag(*with_code(sentence(self._view.health.reason)))

    @renderer
    def next(self, _: IRequest, tag: Tag) -> Tag:
        step = self._view.health.next_step
        return tag(hidden="hidden") if step == NOTHING_TO_DO else tag(*with_code(sentence(step)))

    @renderer
    def notes(self, _: IRequest, tag: Tag) -> Iterable[Tag]:
        return [tag.clone().fillSlots(note=note) for note in self._view.notes]

    @renderer
    def sections(self, _: IRequest, tag: Tag) -> Iterable[Element | Tag]:
        view = self._view
        if view.health.verdict is Health.OWNERLESS and not view.nodes:
            # No node could use a command: it would neither bootstrap nor find another one.
            return [tags.p(tags.a("Create a new discovery ID", href="/", class_="button primary"))]
        nodes, start = NodesSection(self._assets, view), StartNode(self._assets, view.start)
        return [start, nodes] if view.start.is_first else [nodes, start]


class NodesSection(Element):
    """The nodes of an ID; the script draws the picture."""

    def __init__(self, assets: Assets, view: ClusterView) -> None:
        super().__init__(loader=assets.templates["nodes"])
        self._nodes = view.nodes
        self._warnings = view.warnings
        self._is_second = view.start.is_first

    @renderer
    def title(self, _: IRequest, tag: Tag) -> Tag:
        return tag("Step 2: watch the nodes register" if self._is_second else "Nodes")

    @renderer
    def bootstrap(self, _: IRequest, tag: Tag) -> Tag:
        return tag if any(node.alone for node in self._nodes) else tag(hidden="hidden")

    @renderer
    def table(self, _: IRequest, tag: Tag) -> Tag:
        return tag if self._nodes else tag(hidden="hidden")

    @renderer
    def none(self, _: IRequest, tag: Tag) -> Tag:
        return tag(hidden="hidden") if self._nodes else tag

    @renderer
    def nodes(self, _: IRequest, tag: Tag) -> Tag:
        return tag([_row(node, _about(node, self._warnings)) for node in self._nodes[:MAX_ROWS]])

    @renderer
    def rest(self, _: IRequest, tag: Tag) -> Tag | str:
        more = len(self._nodes) - MAX_ROWS
        return tag(f"{counted(more, 'more node')}: `rqdisco show` prints all of them.") if more > 0 else ""


def _about(node: RegisteredNode, warnings: Sequence[AddressWarning]) -> Sequence[AddressWarning]:
    """Return the warnings about the addresses of a node."""
    return [each for each in warnings if each.addr in (node.addr, node.raft_addr)] if warnings else ()


def _row(node: RegisteredNode, warnings: Sequence[AddressWarning]) -> Tag:
    first = tags.td(tags.bdi(escape_invisible(node.addr), class_="addr"))
    if node.leader:
        first(tags.span("leader", class_="tag leader"))
    if node.alone:
        first(tags.span("bootstrap node", class_="tag alone"))
    for each in warnings:
        first(tags.p(*with_code(sentence(each.problem)), " ", *with_code(sentence(each.fix)), class_="mark-note"))
    state, words = _status(node)
    status = tags.td(tags.span(words, class_="state", **{"data-state": state}))
    cells = [tags.td(escape_invisible(text or ""), class_="mono") for text in (node.raft_addr, node.node_id)]
    return tags.tr(first, status, *cells, tags.td(node.heard or "", class_="quiet small"), tags.td())


def _status(node: RegisteredNode) -> tuple[str, str]:
    if node.unresolved:
        return "unclear", "name does not resolve"
    if node.up is None:
        return "unknown", "not probed"
    if not node.up:
        return "down", "does not answer"
    return ("unready", "up, not ready") if node.ready is False else ("up", "up")
