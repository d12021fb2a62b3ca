"""The part of an ID's page that says how to start its nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlsplit

import msgspec
from twisted.web.iweb import IRequest
from twisted.web.template import Element, Tag, renderer, tags

from rqdisco.core.addresses import is_local
from rqdisco.http.ui.assets import Assets
from rqdisco.http.ui.formatting import sentence, with_code
from rqdisco.http.ui.snippets import PLATFORMS, Snippet, generations, notes, requests, snippets
from rqdisco.node_commands import PLACEHOLDER

# As many nodes as a cluster begins with.
_FIRST_NODES = 3
_ON_ONE_MACHINE = (
    "to try it on one machine, use `127.0.0.1` for every node, and for each of them ports and a data directory of its"
    " own"
)


class StartView(msgspec.Struct, frozen=True, kw_only=True):
    """The facts that the commands depend on.

    `url` is the service's; `is_guess` is set if it is taken from the request, which may have come
    through a proxy. `nodes` is the number of registered nodes; `is_first` is set while they form
    their cluster. `is_local_only` is set if no other machine can connect to the daemon.
    """

    id: str
    url: str
    is_guess: bool
    nodes: int
    is_first: bool
    zone: str | None
    requires_token: bool
    is_local_only: bool

    @property
    def numbers(self) -> Sequence[int]:
        """The numbers of the nodes to start."""
        return range(self.nodes + 1, max(self.nodes + 1, _FIRST_NODES) + 1)

    @property
    def warnings(self) -> Sequence[str]:
        """The reasons why a node on another machine could not use the commands, each with the fix."""
        return list(_warnings(self))


def _warnings(view: StartView) -> Iterator[str]:
    try:
        host, scheme = urlsplit(view.url).hostname or "", urlsplit(view.url).scheme
    except ValueError:
        return
    if is_local(view.url):
        if view.is_local_only and view.is_guess:
            yield (
                "Only this machine can reach the daemon. For nodes on other machines, start it with"
                " `--listen tcp:4000` and `--tokens FILE`, or with `--open` on a network that you trust, and open"
                " this page by the address that the nodes use."
            )
        else:
            yield (
                f"`{host}` leads every machine to itself, so the commands work on this machine only. For other"
                " machines, enter the address by which they reach this service."
            )
    elif view.requires_token and scheme == "http":
        yield (
            "Tokens are sent unencrypted over `http://`. On a network that you do not trust, serve TLS and enter the"
            " `https://` address."
        )


class StartNode(Element):
    """The commands, with fields that choose one of them."""

    def __init__(self, assets: Assets, view: StartView) -> None:
        super().__init__(loader=assets.templates["start"])
        self._view = view
        self._requests = requests(view.id, view.url, view.zone, requires_token=view.requires_token)
        self._generations = generations(view.zone)

    @renderer
    def title(self, _: IRequest, tag: Tag) -> Tag:
        return tag("Step 1: run this on each machine" if self._view.is_first else "Add a node")

    @renderer
    def about(self, _: IRequest, tag: Tag) -> Tag:
        return tag("The commands are complete: replace only what is ", tags.mark("marked"), ".")

    @renderer
    def warnings(self, _: IRequest, tag: Tag) -> Iterable[Tag]:
        return [tag.clone()(*with_code(each)) for each in self._view.warnings]

    @renderer
    def url(self, _: IRequest, tag: Tag) -> Tag:
        return tag(value=self._view.url)

    @renderer
    def generations(self, _: IRequest, tag: Tag) -> Iterable[Tag]:
        return _choices("gen", [(str(number), name) for number, name in enumerate(self._generations)])

    @renderer
    def platforms(self, _: IRequest, tag: Tag) -> Iterable[Tag]:
        return _choices("for", PLATFORMS)

    @renderer
    def numbers(self, _: IRequest, tag: Tag) -> Iterable[Tag]:
        return _choices("node", [(str(number), f"Node {number}") for number in self._view.numbers])

    @renderer
    def recipes(self, _: IRequest, tag: Tag) -> Iterable[Tag]:
        return [self._recipe(snippet) for snippet in snippets(self._requests, self._view.numbers)]

    @renderer
    def notes(self, _: IRequest, tag: Tag) -> Iterator[Tag | str]:
        for number, request in enumerate(self._requests):
            lines = [tags.li(*with_code(note)) for note in notes(request)]
            if is_local(self._view.url):
                lines.append(tags.li(*with_code(_ON_ONE_MACHINE)))
            yield tags.ul(lines, class_="recipe-notes", **{"data-gen": str(number)}) if lines else ""

    def _recipe(self, snippet: Snippet) -> Tag:
        number = "all" if snippet.number is None else str(snippet.number)
        place = {"data-gen": str(snippet.generation), "data-for": snippet.platform, "data-node": number}
        figure = tags.div(class_="recipe", **place)
        if snippet.error:
            return figure(tags.p(*with_code(sentence(snippet.error)), class_="note"))
        command = snippet.command
        if command.file:
            next_command = tags.code(command.next_command)
            figure(tags.p("Save as ", tags.code(command.file), ", then run ", next_command, class_="small"))
        name = f"recipe-{snippet.generation}-{snippet.platform}-{number}"
        label = f" the command for {self._generations[snippet.generation]}"
        copy = tags.button("Copy", tags.span(label, class_="visually-hidden"), type="button", class_="slight")
        shown = tags.pre(*_marked(command.text), id=name)
        return figure(tags.div(shown, copy(**{"data-copy": name}), class_="command"))


def _marked(text: str) -> Iterator[Tag | str]:
    for at, part in enumerate(PLACEHOLDER.split(text)):
        if part:
            yield tags.mark(part) if at % 2 else part


def _choices(name: str, choices: Sequence[tuple[str, str]]) -> Iterator[Tag]:
    """Radio buttons; the first is checked."""
    for number, (value, label) in enumerate(choices):
        field = tags.input(type="radio", name=name, id=f"{name}-{value}", value=value)
        if number == 0:
            field(checked="checked")
        yield field
        yield tags.label(label, **{"for": f"{name}-{value}"})
