"""The status page of one daemon, rendered on the server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import UNSET
from twisted.web.iweb import IRequest
from twisted.web.template import Element, Tag, renderer, tags

from rqdisco.http.requests.documents import utc_second
from rqdisco.http.ui.assets import Assets
from rqdisco.http.ui.daemon_status import DiskView, EtcdMemberView, PeersView, PeerView, StatusView
from rqdisco.http.ui.formatting import count, duration, escape_invisible, format_bytes
from rqdisco.telemetry.recent import RecentChange

_PLOT_HEIGHT = 40
_PLOTS = (("created", "IDs created"), ("registered", "Registrations"), ("granted", "Bootstrap grants"))
_FOR_OPERATORS = (
    "Only operators see what was changed, by whom and under which ID: on the operator socket (ssh -L"
    " 4001:/run/rqdisco/operator.sock HOST, then http://localhost:4001/status), or with an admin token."
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
    def verdict(self, _: IRequest, tag: Tag) -> Tag:
        if self._view.wrong:
            return tag("Something is wrong.", class_="error")
        return tag("All is well.", class_="quiet")

    @renderer
    def wrong(self, _: IRequest, tag: Tag) -> list[Tag]:
        notes = [*self._view.wrong, *self._view.notes] if self._is_operator else self._view.wrong
        return [tag.clone().fillSlots(note=escape_invisible(_sentence(note))) for note in notes]

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
        return [_plot(title, getattr(self._view, name)) for name, title in _PLOTS]

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
            return tags.p(_FOR_OPERATORS, class_="quiet small")
        if not self._view.changes:
            return tags.p("No changes since this daemon started.", class_="quiet")
        heads = [tags.th(each, scope="col") for each in ("When", "What", "Outcome", "ID", "Address", "From", "Token")]
        rows = [_change(each) for each in self._view.changes]
        table = tags.table(tags.thead(tags.tr(*heads)), tags.tbody(*rows), class_="list")
        return tags.div(table, class_="scroll", tabindex="0", role="region", **{"aria-labelledby": "changes-title"})

    def _member_row(self, number: int, member: EtcdMemberView) -> Tag:
        state = "leader" if member.leads else "up"
        cells = (
            escape_invisible(member.endpoint) if self._is_operator else f"member {number}",
            state if member.problem is None else "does not answer",
            escape_invisible(member.version or ""),
            "" if member.size is None else format_bytes(member.size),
            "" if member.used is None else format_bytes(member.used),
        )
        return tags.tr(*(tags.td(cell) for cell in cells))

    def _peer_row(self, peer: PeerView, peers: PeersView) -> Tag:
        name = peer.name or (peer.url if self._is_operator else "a peer")
        cells = (
            escape_invisible(name),
            peers.short_incarnation(peer.incarnation),
            peer.state,
            "" if peer.last_contact is None else f"{peer.last_contact:.1f} s ago",
            "" if peer.lag is None else f"{peer.lag:,}",
            "" if peer.clock_offset_ms is None else f"{peer.clock_offset_ms:,} ms",
        )
        return tags.tr(*(tags.td(cell) for cell in cells))


def _facts(tag: Tag, facts: Mapping[str, str]) -> list[Tag]:
    return [tag.clone().fillSlots(name=name, value=value) for name, value in facts.items()]


def _disk(disk: DiskView) -> dict[str, str]:
    took = disk.snapshot_lasted
    return {
        "Writing": "possible" if disk.refused is None else f"not possible: {disk.refused}",
        "Written since the start": format_bytes(disk.bytes_written),
        "Changes made durable": f"{disk.changes_written:,} in {count(disk.batches_written, 'batch', 'batches')}",
        "Snapshot age": duration(disk.snapshot_age),
        "Snapshot interval": duration(disk.snapshot_every),
        "Last snapshot took": "none yet" if took is None else f"{took:.2f} s",
    }


def _change(change: RecentChange) -> Tag:
    event = change.event
    outcome = event.outcome if event.why is None else f"{event.outcome}: {event.why}"
    at = utc_second(change.at)
    # Changes of tokens and peers have a name.
    what = " ".join([event.kind, *(str(event.more[each]) for each in ("name",) if each in event.more)])
    cells = (what, outcome, event.id, event.addr or "", event.client or "", event.token or "")
    when = tags.td(tags.time(at.replace("T", " ").replace("Z", ""), datetime=at), class_="quiet")
    return tags.tr(when, *(tags.td(tags.bdi(escape_invisible(cell))) for cell in cells))


def _plot(title: str, counts: Sequence[int]) -> Tag:
    total, top = sum(counts), max(*counts, 1)
    bars = "".join(
        f"M{at} {_PLOT_HEIGHT}v{-_PLOT_HEIGHT * each / top:.2f}h.76V{_PLOT_HEIGHT}z"
        for at, each in enumerate(counts)
        if each
    )
    most = max(counts)
    label = f"{title}: {count(total, 'time')} in the last hour, {most:,} a minute at most"
    base = Tag("line")(class_="base", x1="0", x2=str(len(counts)), y1=str(_PLOT_HEIGHT), y2=str(_PLOT_HEIGHT))
    picture = Tag("svg")(Tag("path")(class_="bars", d=bars) if bars else "", base)
    picture(
        viewBox=f"0 0 {len(counts)} {_PLOT_HEIGHT + 1}", preserveAspectRatio="none", role="img", **{"aria-label": label}
    )
    caption = tags.p(f"in the last hour, {most:,} a minute at most", class_="quiet small")
    return tags.div(tags.h2(title), tags.strong(f"{total:,}"), picture, caption, class_="card plot")


def _graph(view: PeersView) -> Tag:
    """This daemon above its peers, with the number of changes that each of them lacks."""
    own, peers = view.label(view) or "", [peer for peer in view.peers if peer.name is not None]
    width, height = max(340, 130 * len(peers)), 110 if not peers else 250
    middle = width / 2, 50.0
    places = [(width * (at + 1) / (len(peers) + 1), 185.0) for at in range(len(peers))]
    parts = []
    for peer, (x, y) in zip(peers, places, strict=True):
        wire = "wire" if peer.is_up else "wire silent"
        parts.append(Tag("line")(class_=wire, x1=f"{middle[0]}", y1=f"{middle[1]}", x2=f"{x:.0f}", y2=f"{y:.0f}"))
    parts += _disc(own, "this daemon", *middle, "disc own")
    for peer, (x, y) in zip(peers, places, strict=True):
        parts += _disc(view.label(peer) or "", _lag(peer), x, y, "disc" if peer.is_up else "disc silent")
    label = f"{own} and {count(len(peers), 'peer')}; the table shows the changes that each of them lacks"
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
        return peer.state
    return f"lacks {peer.lag:,}" if peer.lag else "up to date"


def _disc(name: str, under: str, x: float, y: float, kind: str) -> Iterator[Tag]:
    yield Tag("circle")(class_=kind, cx=f"{x:.0f}", cy=f"{y:.0f}", r="20")
    shown = escape_invisible(name)
    yield Tag("text")(shown if len(shown) < 22 else f"{shown[:20]}…", x=f"{x:.0f}", y=f"{y + 38:.0f}")
    yield Tag("text")(under, class_="under", x=f"{x:.0f}", y=f"{y + 54:.0f}")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
