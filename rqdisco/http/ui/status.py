"""The status page of one daemon, rendered on the server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import UNSET
from twisted.web.iweb import IRequest
from twisted.web.template import Element, Tag, renderer, tags

from rqdisco.core.plurals import counted
from rqdisco.http.ui.assets import Assets
from rqdisco.http.ui.changes import changes_table
from rqdisco.http.ui.daemon_status import DiskView, EtcdMemberView, PeersView, PeerView, StatusView
from rqdisco.http.ui.formatting import duration, escape_invisible, format_bytes, sentence, with_code
from rqdisco.http.ui.plots import plot

_PLOTS = (("created", "IDs created"), ("registered", "Registrations"), ("granted", "Bootstrap grants"))
_SILENT = "does not answer"
_PEER_STATES = {"silent": _SILENT, "never met": "never reached", "fenced": "fenced, decides nothing"}
_FOR_OPERATORS = (
    "Only operators see what was changed, by whom and under which ID: with an admin token, or on the operator socket."
    " To reach that in a browser, run `ssh -L 4001:/run/rqdisco/operator.sock HOST` and open"
    " `http://localhost:4001/status`."
)


class StatusPage(Element):
    """One daemon at one moment. Only operators see IDs, addresses and clients."""

    def __init__(self, assets: Assets, view: StatusView, *, is_operator: bool) -> None:
        super().__init__(loader=assets.templates["status"])
        self._view = view
        self._is_operator = is_operator

    @renderer
    def name(self, _: IRequest, tag: Tag) -> Tag:
        peers = self._view.peers
        return tag("This daemon" if peers is None else escape_invisible(peers.name))

    @renderer
    def banner(self, _: IRequest, tag: Tag) -> Tag:
        health, _words = self._condition
        return tag(**{"data-health": health})

    @renderer
    def verdict(self, _: IRequest, tag: Tag) -> Tag:
        health, words = self._condition
        return tag(words, **{"data-health": health})

    @renderer
    def reasons(self, _: IRequest, tag: Tag) -> Tag | str:
        reasons = [*self._view.wrong, *self._notes]
        return tag(*(tags.li(escape_invisible(sentence(each))) for each in reasons)) if reasons else ""

    @property
    def _notes(self) -> Sequence[str]:
        return self._view.notes if self._is_operator else ()

    @property
    def _condition(self) -> tuple[str, str]:
        """The badge of this daemon, and its words."""
        if self._view.wrong:
            return "no quorum", "Something is wrong"
        return ("degraded", "It works, but look at this") if self._notes else ("healthy", "All is well")

    @renderer
    def facts(self, _: IRequest, tag: Tag) -> list[Tag]:
        view = self._view
        ids, nodes = view.service.ids, view.nodes
        facts = {
            "Version": view.service.version,
            "Up for": duration(view.service.uptime),
            "Discovery IDs": "being counted" if ids is UNSET else f"{ids:,}",
        }
        if nodes is not UNSET:
            facts["Nodes"] = "being counted" if nodes is None else f"{nodes:,}"
        return _facts(tag, {**facts, "Event streams": f"{view.watchers:,}"})

    @renderer
    def plots(self, _: IRequest, tag: Tag) -> list[Tag]:
        return [plot(title, getattr(self._view, name)) for name, title in _PLOTS]

    @renderer
    def peers(self, _: IRequest, tag: Tag) -> Tag | str:
        return "" if self._view.peers is None else tag

    @renderer
    def graph(self, _: IRequest, tag: Tag) -> Tag:
        assert self._view.peers is not None
        return _graph(self._view.peers)

    @renderer
    def peer_rows(self, _: IRequest, tag: Tag) -> Tag:
        assert self._view.peers is not None
        return tag([self._peer_row(each, self._view.peers) for each in self._view.peers.peers])

    @renderer
    def etcd(self, _: IRequest, tag: Tag) -> Tag | str:
        return "" if self._view.etcd is None else tag

    @renderer
    def etcd_rows(self, _: IRequest, tag: Tag) -> Tag:
        assert self._view.etcd is not None
        return tag([self._member_row(number, each) for number, each in enumerate(self._view.etcd, 1)])

    @renderer
    def disk(self, _: IRequest, tag: Tag) -> Tag | str:
        return "" if self._view.disk is None else tag

    @renderer
    def disk_facts(self, _: IRequest, tag: Tag) -> list[Tag]:
        assert self._view.disk is not None
        return _facts(tag, _disk(self._view.disk))

    @renderer
    def changes(self, _: IRequest, tag: Tag) -> Tag:
        if not self._is_operator:
            return tags.p(*with_code(_FOR_OPERATORS), class_="quiet small")
        if not self._view.changes:
            return tags.p("No changes since this daemon started.", class_="quiet")
        return changes_table(self._view.changes)

    def _member_row(self, number: int, member: EtcdMemberView) -> Tag:
        state, words = ("up", "leader" if member.leads else "up") if member.problem is None else ("down", _SILENT)
        return _labelled_row(
            escape_invisible(member.endpoint) if self._is_operator else f"member {number}",
            tags.span(words, class_="state", **{"data-state": state}),
            version=escape_invisible(member.version or ""),
            database="" if member.size is None else format_bytes(member.size),
            used="" if member.used is None else format_bytes(member.used),
        )

    def _peer_row(self, peer: PeerView, peers: PeersView) -> Tag:
        name = peer.name or (peer.url if self._is_operator else "a peer")
        words = _PEER_STATES.get(peer.state, peer.state)
        return _labelled_row(
            escape_invisible(name),
            tags.span(words, class_="state", **{"data-state": "up" if peer.is_up else "down"}),
            incarnation=peers.short_incarnation(peer.incarnation),
            last_contact="" if peer.last_contact is None else f"{peer.last_contact:.1f} s ago",
            lacks="" if peer.lag is None else counted(peer.lag, "change") if peer.lag else "nothing",
            clock_offset="" if peer.clock_offset_ms is None else f"{peer.clock_offset_ms:,} ms",
        )


def _labelled_row(name: str, state: Tag, **cells: str) -> Tag:
    """A row whose further cells say what they hold where the page is narrow."""
    labelled = [tags.td(text, **{"data-what": what.replace("_", " ")}) for what, text in cells.items()]
    return tags.tr(tags.td(tags.strong(name)), tags.td(state), *labelled)


def _facts(tag: Tag, facts: Mapping[str, str]) -> list[Tag]:
    return [tag.clone().fillSlots(name=name, value=value) for name, value in facts.items() if value]


def _disk(disk: DiskView) -> dict[str, str]:
    lasted, next_in = disk.snapshot_lasted, disk.snapshot_every - disk.snapshot_age
    return {
        "Writing": "works" if disk.refused is None else f"fails: {disk.refused}",
        "Written since the start": format_bytes(disk.bytes_written),
        "Changes on disk": f"{disk.changes_written:,} in {counted(disk.batches_written, 'batch', 'batches')}",
        "Last snapshot": "none since the start" if lasted is None else f"{duration(disk.snapshot_age)} ago",
        "It took": "" if lasted is None else f"{lasted:.2f} s",
        "Next snapshot": f"in {duration(next_in)} at most" if next_in > 0 else "due with the next change",
    }


def _graph(view: PeersView) -> Tag:
    """This daemon above its peers, with the number of changes that each of them lacks."""
    own, peers = view.label(view) or "", [peer for peer in view.peers if peer.name is not None]
    width, height = max(340, 150 * len(peers)), 100 if not peers else 230
    middle = width / 2, 62.0
    places = [(width * (2 * at + 1) / (2 * len(peers)), 165.0) for at in range(len(peers))]
    parts = []
    for peer, (x, y) in zip(peers, places, strict=True):
        wire = "wire" if peer.is_up else "wire silent"
        parts.append(Tag("line")(class_=wire, x1=f"{middle[0]}", y1=f"{middle[1]}", x2=f"{x:.0f}", y2=f"{y:.0f}"))
    # Its name is above, where no line is.
    parts += _disc(own, "this daemon", *middle, "disc own", name_at=-46)
    for peer, (x, y) in zip(peers, places, strict=True):
        parts += _disc(view.label(peer) or "", _lag(peer), x, y, "disc" if peer.is_up else "disc silent")
    label = f"{own} and {counted(len(peers), 'peer')}; the table shows the changes that each of them lacks"
    return Tag("svg")(
        *parts,
        viewBox=f"0 0 {width} {height}",
        width=str(width),
        height=str(height),
        role="img",
        **{"aria-label": label},
    )


def _lag(peer: PeerView) -> str:
    if not peer.is_up or peer.lag is None:
        return _PEER_STATES.get(peer.state, peer.state)
    return f"lacks {peer.lag:,}" if peer.lag else "up to date"


def _disc(name: str, under: str, x: float, y: float, kind: str, name_at: int = 38) -> Iterator[Tag]:
    yield Tag("circle")(class_=kind, cx=f"{x:.0f}", cy=f"{y:.0f}", r="20")
    shown = escape_invisible(name)
    yield Tag("text")(shown if len(shown) < 22 else f"{shown[:20]}…", x=f"{x:.0f}", y=f"{y + name_at:.0f}")
    yield Tag("text")(under, class_="under", x=f"{x:.0f}", y=f"{y + name_at + 16:.0f}")
