"""The pages as elements of twisted.web.template, which escapes the values in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec
from twisted.web.iweb import IRequest
from twisted.web.template import Element, Tag, renderer, tags

from rqdisco import __version__
from rqdisco.http.requests.documents import ServiceDocument
from rqdisco.http.ui.assets import Assets
from rqdisco.http.ui.formatting import DAY, duration, escape_invisible, sentence

_STATES = {
    "up": "up",
    "fenced": "fenced, decides nothing",
    "silent": "unreachable",
    "established": "this daemon",
    "never met": "never reached",
}
# Paths and names of the pages that every page links to.
NAVIGATION = (("/clusters", "Clusters"), ("/status", "Status"), ("/help/api", "API"), ("/help", "Docs"))


class PageOfID(Element):
    """A page about one ID, which is a part of the clusters."""


class PageFrame(Element):
    """The frame around every page's own element, `inner`. `path` is that of the page."""

    def __init__(self, assets: Assets, path: str, title: str, inner: Element) -> None:
        super().__init__(loader=assets.templates["frame"])
        self._assets = assets
        self._path = path
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
    def links(self, _: IRequest, tag: Tag) -> Iterator[Tag]:
        for path, name in NAVIGATION:
            link = tags.a(name, href=path)
            if path == self._path:
                link(**{"aria-current": "page"})
            elif path == "/clusters" and isinstance(self._inner, PageOfID):
                link(**{"aria-current": "true"})
            yield link

    @renderer
    def main(self, _: IRequest, tag: Tag) -> Element:
        return self._inner

    @renderer
    def about(self, _: IRequest, tag: Tag) -> str:
        return f"rqdisco {__version__}, the discovery service for rqlite"


class HomePage(Element):
    """An introduction, and the state of the service; `peers` are the name and state of each daemon,
    this one first. `problem` is why the form was not followed.
    """

    def __init__(
        self, assets: Assets, info: ServiceDocument, peers: Sequence[tuple[str, str]], problem: str | None = None
    ) -> None:
        super().__init__(loader=assets.templates["home"])
        self._info = info
        self._peers = peers
        self._problem = problem

    @renderer
    def problem(self, _: IRequest, tag: Tag) -> Tag | str:
        return "" if self._problem is None else tag(self._problem)

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


class TokenPage(Element):
    """A form for a token."""

    def __init__(self, assets: Assets) -> None:
        super().__init__(loader=assets.templates["token"])


class HelpPage(Element):
    """A guide for those who start nodes and operate the service."""

    def __init__(self, assets: Assets) -> None:
        super().__init__(loader=assets.templates["help"])


class ProblemPage(Element):
    """An explanation why there is no page."""

    def __init__(self, assets: Assets, status: int, heading: str, text: str) -> None:
        super().__init__(loader=assets.templates["problem"])
        self._status = status
        self._heading = heading
        self._text = text

    @renderer
    def status(self, _: IRequest, tag: Tag) -> str:
        return f"Error {self._status}"

    @renderer
    def heading(self, _: IRequest, tag: Tag) -> Tag:
        return tag(self._heading[:1].upper() + self._heading[1:])

    @renderer
    def text(self, _: IRequest, tag: Tag) -> Tag:
        return tag(escape_invisible(sentence(self._text)))


class UnknownIDPage(PageOfID):
    """The page of an ID that does not exist: a search, and a button that creates it.

    `text` says what is known. `objection` is why the ID cannot be created here, None if it can.
    """

    def __init__(self, assets: Assets, discovery_id: str, text: str, objection: str | None) -> None:
        super().__init__(loader=assets.templates["unknown"])
        self._id = escape_invisible(discovery_id)
        self._text = text
        self._objection = objection

    @renderer
    def id(self, _: IRequest, tag: Tag) -> Tag:
        return tag(self._id)

    @renderer
    def text(self, _: IRequest, tag: Tag) -> Tag:
        return tag(escape_invisible(self._text))

    @renderer
    def search(self, _: IRequest, tag: Tag) -> Tag:
        return tag(value=self._id[:200])

    @renderer
    def create(self, _: IRequest, tag: Tag) -> Tag:
        return tag(**{"data-id": self._id}) if self._objection is None else tag

    @renderer
    def advice(self, _: IRequest, tag: Tag) -> Tag:
        if self._objection is not None:
            return tag(self._objection)
        command = tags.code(f"rqdisco create --name {self._id}")
        return tag("With this name, for a new cluster; the command is ", command, ".")

    @renderer
    def button(self, _: IRequest, tag: Tag) -> Tag | str:
        return tag.fillSlots(id=self._id) if self._objection is None else ""

    @renderer
    def instead(self, _: IRequest, tag: Tag) -> Tag | str:
        return "" if self._objection is None else tag
