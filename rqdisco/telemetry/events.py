"""Events: every change and refusal is published once, to the log, the counts and the audit log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import msgspec
from twisted.logger import Logger, LogLevel

_log = Logger()
_WARNINGS = ("forget", "drain", "freeze", "thaw")
# The outcome of a request refused with 503 because of the disk or of peers.
UNAVAILABLE = "unavailable"
# The outcome of a registration that another daemon than the owner of the ID answered (R4).
ON_BEHALF = "listed on the owner's behalf"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt to change something, and its outcome.

    `kind` is one of create, registration, removal, claim, leader report, leader removal, import,
    expiry, forget, drain, fence, freeze, thaw, two leaders, token, or `request` for an unauthorized
    request that would have changed nothing. `outcome` is one of a few words; `why` explains it where needed.
    `more` holds the fields of this kind only. `client` is the address of the client, `token` the
    name of its token, `request` the ID of the request.

    Events of bulk changes are not `logged` one by one. An event that changed nothing is not
    `audited`, and one of an unauthorized request is not `counted`.
    """

    kind: str
    outcome: str
    api: str = ""
    id: str = ""
    addr: str | None = None
    client: str | None = None
    token: str | None = None
    request: str | None = None
    why: str | None = None
    more: Mapping[str, object] = {}
    logged: bool = True
    audited: bool = True
    counted: bool = True


Observer = Callable[[Event], None]


class Events:
    """Publishes events to its observers, in their order."""

    def __init__(self, *observers: Observer) -> None:
        self.observers = list(observers)

    def publish(self, event: Event) -> None:
        """Call every observer with `event`."""
        for observer in self.observers:
            observer(event)


class EventLog:
    """An observer that writes events to the log. `wall_us` returns the wall clock in microseconds
    since 1970.
    """

    def __init__(self, wall_us: Callable[[], int], log: Logger = _log) -> None:
        self._wall_us = wall_us
        self._log = log

    def __call__(self, event: Event) -> None:
        if not event.logged:
            return
        # As Logger.emit, without its checks.
        entry: dict[str, object] = {
            "log_logger": self._log,
            "log_level": LogLevel.warn if _needs_attention(event) else LogLevel.info,
            "log_namespace": self._log.namespace,
            "log_source": None,
            "log_format": event.kind,
            "log_time": self._wall_us() / 1_000_000,
            "discovery_id": event.id or None,
            "addr": event.addr,
            "peer": event.client,
        }
        if event.token is not None:
            entry["token"] = event.token
        if event.request is not None:
            entry["request"] = event.request
        entry["result"] = event.outcome if event.why is None else f"{event.outcome}: {event.why}"
        if event.more:
            entry.update(event.more)
        self._log.observer(entry)


def _needs_attention(event: Event) -> bool:
    """Forgetting and draining cannot be undone; what cannot be decided or written may stop many
    clients.
    """
    return event.outcome == UNAVAILABLE or (event.kind in _WARNINGS and event.why is None)


class OutcomeCounts:
    """Counts events by kind and outcome."""

    def __init__(self) -> None:
        self.by_kind: Counter[tuple[str, str]] = Counter()

    def __call__(self, event: Event) -> None:
        if event.counted:
            self.by_kind[event.kind, event.outcome] += 1
