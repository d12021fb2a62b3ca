"""The last changes of a daemon as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.web.template import Tag, tags

from rqdisco.core.ids import is_id
from rqdisco.http.requests.documents import utc_second
from rqdisco.http.ui.formatting import escape_invisible
from rqdisco.telemetry.events import ON_BEHALF, Event
from rqdisco.telemetry.recent import RecentChange

_HEADS = ("When (UTC)", "What", "ID", "Address", "From", "Token")
_WORDS: Mapping[tuple[str, str], str] = {
    ("create", "created"): "ID created",
    ("registration", "granted"): "node registered, told to bootstrap",
    ("registration", "listed"): "node registered",
    ("registration", "again"): "node registered again",
    ("registration", ON_BEHALF): "node registered on the owner's behalf",
    ("removal", "removed"): "node removed",
    ("claim", "granted"): "claim to lead won",
    ("claim", "lost"): "claim to lead lost",
    ("leader report", "reported"): "leader reported",
    ("leader removal", "removed"): "leader key removed",
}


def changes_table(changes: Sequence[RecentChange]) -> Tag:
    """Return the table of changes, which wraps instead of scrolling."""
    heads = [tags.th(each, scope="col") for each in _HEADS]
    return tags.table(tags.thead(tags.tr(*heads)), tags.tbody(*map(_row, changes)), class_="list")


def _row(change: RecentChange) -> Tag:
    event, at = change.event, utc_second(change.at)
    shown = at.replace("T", " ").replace("Z", "")
    discovery_id = tags.bdi(escape_invisible(event.id))
    link = tags.a(discovery_id, href=f"/{event.id}") if is_id(event.id) else discovery_id if event.id else ""
    return tags.tr(
        tags.td(tags.time(shown, datetime=at), class_="quiet when"),
        tags.td(tags.bdi(escape_invisible(_what(event)))),
        tags.td(link, class_="mono id"),
        *(
            tags.td(tags.bdi(escape_invisible(cell)) if cell else "", class_=kind, **{"data-what": what})
            for cell, kind, what in (
                (event.addr, "mono", "address"),
                (event.client, "mono from", "from"),
                (event.token, "", "token"),
            )
        ),
    )


def _what(event: Event) -> str:
    words = _WORDS.get((event.kind, event.outcome))
    if words is None:
        # Changes of tokens and peers have a name.
        named = f"{event.kind} {event.more['name']}" if "name" in event.more else event.kind
        words = f"{named} {event.outcome}"
    return words if event.why is None else f"{words}: {event.why}"
