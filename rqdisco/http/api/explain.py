"""All that is known of an ID and why, for operators: `GET /ID?explain=1`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rqdisco.core.records import Grant, Record
from rqdisco.http.requests.documents import encode_object, legacy_time
from rqdisco.telemetry.answer_history import PastAnswer


def explanation(record: Record, *, may_grant: bool, age: float | None, history: Sequence[PastAnswer]) -> bytes:
    """A JSON object: the home and those before it, the grant, and who was told what by this daemon,
    the oldest first.

    `may_grant` says whether anybody can be told to bootstrap, `age` is in seconds since the home
    was heard.
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


def _grant(grant: Grant) -> dict[str, Any]:
    """`at` is in milliseconds of the home's boot number `boot`; pending until its answer was
    sent.
    """
    return {"addr": grant.addr, "boot": grant.boot, "at": grant.at, "pending": grant.pending, "host": grant.host}
