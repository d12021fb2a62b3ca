"""Why an ID is answered as it is, for operators: `GET /ID?explain=1`."""

from __future__ import annotations

from collections.abc import Sequence

from rqdisco.core.records import Grant, Record
from rqdisco.http.requests.documents import encode_object, legacy_time
from rqdisco.telemetry.answer_history import PastAnswer


def explanation(record: Record, *, may_grant: bool, age: float | None, history: Sequence[PastAnswer]) -> bytes:
    """Encode the owner and those before it, the grant, and this daemon's answers, the oldest first.

    `may_grant` reports whether a node can be told to bootstrap, `age` is in seconds since the last
    contact with the owner.
    """
    return encode_object(
        {
            "disco_id": record.id,
            "created_at": legacy_time(record.created_at),
            "home": record.owner,
            "home_heard": None if age is None else round(age, 1),
            "was": list(record.previous_owners),
            "lost": record.ownerless,
            "may_grant": may_grant,
            "version": record.version,
            "nodes": [node.addr for node in record.nodes],
            "grant": None if record.grant is None else _grant(record.grant),
            "emptied_before": record.was_emptied,
            "confirmed": record.confirmed,
            "claim": None if record.unreported is None else {"times": record.unreported.times},
            "host": record.host,
            "leader": None if record.leader is None else record.leader.addr,
            "told": [
                {"at": legacy_time(each.at), "addr": each.addr, "what": each.what, "listed": each.listed}
                for each in history
            ],
        }
    )


def _grant(grant: Grant) -> dict[str, object]:
    """`at` is in milliseconds since the owner's boot number `boot`. The grant is pending until its
    answer was sent.
    """
    return {"addr": grant.addr, "boot": grant.boot, "at": grant.at, "pending": grant.pending, "host": grant.host}
