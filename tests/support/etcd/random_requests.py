"""Random requests to etcd, about few keys and leases, so that they meet."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from tests.support.etcd.encoding import b64

KEYS = [f"k{number}" for number in range(6)]
LEASES = ("71", "72")
DEEPEST = 3

Request = tuple[str, dict[str, Any]]
_OPERANDS = {
    "MOD": "mod_revision",
    "VERSION": "version",
    "CREATE": "create_revision",
    "VALUE": "value",
    "LEASE": "lease",
}


class RandomRequests:
    """Makes requests; `revision` is that of the answer before."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self.revision = 0

    def next(self) -> Request:
        makers: list[tuple[int, Callable[[], Request]]] = [
            (60, lambda: ("/v3/kv/txn", self._txn(0))),
            (15, lambda: ("/v3/kv/range", self._range())),
            (10, lambda: ("/v3/kv/put", self._put())),
            (7, lambda: ("/v3/kv/deleterange", self._delete())),
            (2, lambda: ("/v3/lease/grant", {"ID": self._one_of(*LEASES), "TTL": "1000"})),
            (1, lambda: ("/v3/lease/revoke", {"ID": self._one_of(*LEASES)})),
            (3, lambda: ("/v3/lease/timetolive", {"ID": self._one_of(*LEASES), "keys": True})),
            (1, lambda: ("/v3/kv/compaction", {"revision": str(self.revision - self._random.randrange(60))})),
            (1, self._alarm),
        ]
        (make,) = self._random.choices([make for _, make in makers], [weight for weight, _ in makers])
        return make()

    def _alarm(self) -> Request:
        action = self._one_of("ACTIVATE", "DEACTIVATE", "DEACTIVATE")
        return "/v3/maintenance/alarm", {"action": action, "alarm": "NOSPACE"}

    def _txn(self, depth: int) -> dict[str, Any]:
        return {
            "compare": [self._compare() for _ in range(self._random.randrange(3))],
            "success": [self._operation(depth) for _ in range(self._random.randrange(4))],
            "failure": [self._operation(depth) for _ in range(self._random.randrange(3))],
        }

    def _operation(self, depth: int) -> dict[str, Any]:
        kind = self._random.random()
        if kind < 0.3:
            return {"request_range": self._range()}
        if kind < 0.45:
            return {"request_delete_range": self._delete()}
        if kind < 0.65 and depth < DEEPEST:
            return {"request_txn": self._txn(depth + 1)}
        return {"request_put": self._put()}

    def _compare(self) -> dict[str, Any]:
        target = self._one_of("MOD", "MOD", *_OPERANDS)
        operand = {
            "MOD": str(self._one_of(0, self.revision, self.revision - 1)),
            "VERSION": str(self._random.randrange(3)),
            "CREATE": "0",
            "VALUE": self._value(),
            "LEASE": self._one_of("0", *LEASES),
        }[target]
        result = self._one_of(None, "EQUAL", "GREATER", "LESS", "NOT_EQUAL")
        end = self._end() if self._seldom(5) else None
        return _given(key=self._key(), target=target, result=result, range_end=end, **{_OPERANDS[target]: operand})

    def _range(self) -> dict[str, Any]:
        revision = self.revision + self._one_of(-7, -3, -1, 0, 1) if self._seldom(5) else None
        return _given(
            key=self._key_or_none(),
            range_end=self._end(),
            limit=self._one_of(None, None, "1", 2),
            keys_only=self._one_of(None, None, True),
            count_only=self._one_of(None, None, None, True),
            sort_order=self._one_of(None, None, None, "DESCEND", "ASCEND"),
            revision=None if revision is None else str(revision),
        )

    def _put(self) -> dict[str, Any]:
        return _given(
            key=self._key_or_none(),
            value=self._one_of(None, self._value()),
            lease=self._one_of(None, None, None, None, *LEASES, "73"),
            prev_kv=self._one_of(None, True),
        )

    def _delete(self) -> dict[str, Any]:
        end = self._end() if self._seldom(3) else None
        return _given(key=self._key(), range_end=end, prev_kv=self._one_of(None, True))

    def _key(self) -> str:
        return b64(self._one_of(*KEYS))

    def _key_or_none(self) -> str | None:
        return None if self._seldom(30) else self._key()

    def _end(self) -> str | None:
        end: str | None = self._one_of(None, None, None, b64("\0"), b64("k4"), b64("k1"))
        return end

    def _value(self) -> str:
        return b64(f"v{self._random.randrange(5)}")

    def _seldom(self, of: int) -> bool:
        return self._random.randrange(of) == 0

    def _one_of(self, *choices: Any) -> Any:
        return self._random.choice(choices)


def _given(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
