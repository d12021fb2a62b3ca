"""What happened: told once, by whoever made it happen, to the log, the counters and the audit log
alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.logger import Logger, LogLevel

_log = Logger()
_WARNINGS = ("forget", "drain")
# The outcome of what was refused with 503, for which the disk or peers are to blame.
UNAVAILABLE = "unavailable"
# What came of a registration that another daemon answered than the owner of the ID (R4).
ON_BEHALF = "listed on the owner's behalf"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt to change something, and what came of it.

    `kind` is one of mint, registration, removal, claim, leader report, leader removal, import,
    expiry, forget, drain, fence, two leaders, token, or `request` for one that was not let in and
    would have changed nothing. `outcome` is one of few words, `why` says more where there is more;
    `more` are fields that this kind alone has. `client` is the address it came from, `asker` the
    name of the token it was asked with, `request` what the request is called. What nobody needs to
    read line by line is not `logged`, what changed nothing is not `audited`, and who was not let in
    is not `counted` among those who tried.
    """

    kind: str
    outcome: str
    api: str = ""
    id: str = ""
    addr: str | None = None
    client: str | None = None
    asker: str | None = None
    request: str | None = None
    why: str | None = None
    more: dict[str, Any] = {}
    logged: bool = True
    audited: bool = True
    counted: bool = True


Observer = Callable[[Event], None]


class Events:
    """Tells everybody who should know, in the order in which they came."""

    def __init__(self, *observers: Observer) -> None:
        self.observers = list(observers)

    def tell(self, event: Event) -> None:
        """It happened."""
        for observer in self.observers:
            observer(event)


def log_event(event: Event) -> None:
    """One line in the log."""
    if not event.logged:
        return
    why = event.why
    fields = {
        "discovery_id": event.id or None,
        "addr": event.addr,
        "peer": event.client,
        "token": event.asker,
        "request": event.request,
        "result": event.outcome if why is None else f"{event.outcome}: {why}",
    }
    if event.more:
        fields.update(event.more)
    # What was forgotten or drained is not undone; what cannot be decided or written needs
    # somebody's attention.
    is_warning = event.outcome == UNAVAILABLE or (event.kind in _WARNINGS and why is None)
    level = LogLevel.warn if is_warning else LogLevel.info
    _log.emit(level, event.kind, **fields)


class OutcomeCounts:
    """How often each kind of event came to each of its outcomes."""

    def __init__(self) -> None:
        self.by_kind: Counter[tuple[str, str]] = Counter()

    def __call__(self, event: Event) -> None:
        if event.counted:
            self.by_kind[event.kind, event.outcome] += 1
