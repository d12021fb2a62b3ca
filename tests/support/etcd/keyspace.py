"""The keys of the model etcd: revisions, transactions, history and leases' attachments."""

from __future__ import annotations

import operator
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from itertools import chain

from tests.support.etcd.wire import (
    CompareRequest,
    DeleteRequest,
    KeyValue,
    OperationRequest,
    PutRequest,
    RangeRequest,
    Refusal,
    TxnRequest,
    compacted,
    future_revision,
    key_not_provided,
    lease_not_found,
)

MAX_OPERATIONS = 128
TO_THE_END = b"\0"

_FIELDS = {"VERSION": "version", "CREATE": "create", "MOD": "mod", "VALUE": "value", "LEASE": "lease"}
_OPERANDS = {
    "VERSION": "version",
    "CREATE": "create_revision",
    "MOD": "mod_revision",
    "VALUE": "value",
    "LEASE": "lease",
}
_RESULTS = {"EQUAL": operator.eq, "NOT_EQUAL": operator.ne, "GREATER": operator.gt, "LESS": operator.lt}

Interval = tuple[bytes, bytes]


class Change:
    """A key before and after one change; version 0 afterwards means that it was deleted."""

    __slots__ = ("after", "before")

    def __init__(self, before: KeyValue | None, after: KeyValue) -> None:
        self.before = before
        self.after = after


class RangeResult:
    __slots__ = ("count", "kvs", "more", "revision", "with_values")

    def __init__(self, revision: int, kvs: Sequence[KeyValue], more: bool, count: int, with_values: bool) -> None:
        self.revision = revision
        self.kvs = kvs
        self.more = more
        self.count = count
        self.with_values = with_values


class PutResult:
    __slots__ = ("previous", "revision")

    def __init__(self, revision: int, previous: KeyValue | None) -> None:
        self.revision = revision
        self.previous = previous


class DeleteResult:
    __slots__ = ("deleted", "previous", "revision")

    def __init__(self, revision: int, deleted: int, previous: Sequence[KeyValue]) -> None:
        self.revision = revision
        self.deleted = deleted
        self.previous = previous


class TxnResult:
    __slots__ = ("results", "succeeded")

    def __init__(self, succeeded: bool, results: list[Result]) -> None:
        self.succeeded = succeeded
        self.results = results


Result = RangeResult | PutResult | DeleteResult | TxnResult


class Path:
    """The branch that a transaction takes, and those of the transactions inside it."""

    __slots__ = ("inner", "operations", "succeeded")

    def __init__(self, succeeded: bool, operations: list[OperationRequest], inner: list[Path | None]) -> None:
        self.succeeded = succeeded
        self.operations = operations
        self.inner = inner


class Keyspace:
    """All keys. Requests have been checked by `check_txn` and the like."""

    def __init__(self) -> None:
        self.revision = 1
        self.compacted = 0
        self.current: dict[bytes, KeyValue] = {}
        self.leases: dict[int, set[bytes]] = {}  # the keys attached to each
        self.log: list[Change] = []
        self._sorted: list[bytes] = []
        self._pending: list[Change] = []

    def copy(self) -> Keyspace:
        """Return a copy that later changes of this one do not reach."""
        copy = Keyspace()
        copy.revision = self.revision
        copy.compacted = self.compacted
        copy.current = dict(self.current)
        copy.leases = {lease: set(keys) for lease, keys in self.leases.items()}
        copy.log = list(self.log)
        copy._sorted = list(self._sorted)
        return copy

    def range(self, request: RangeRequest, newest: int | None = None) -> RangeResult:
        """Read. With `newest` this is a member that has not heard of later revisions."""
        revision = self.revision + (1 if self._pending else 0)
        if newest is None:
            newest = revision
        at = request.revision or newest
        if at > newest:
            raise future_revision()
        if request.revision and at < self.compacted:
            raise compacted()
        if at < revision:
            state = self._state_at(at)
            keys = self._matching(sorted(state), request.key, request.range_end)
        elif not request.range_end:
            found = self.current.get(request.key)
            kvs = [] if found is None or request.count_only else [found]
            return RangeResult(newest, kvs, False, int(found is not None), not request.keys_only)
        else:
            state, keys = self.current, self._matching(self._sorted, request.key, request.range_end)
        count = len(keys)
        if request.count_only:
            return RangeResult(newest, (), False, count, False)
        kvs = [state[key] for key in (keys[: request.limit] if self._unsorted(request) else keys)]
        if not self._unsorted(request):
            attribute = {**_FIELDS, "KEY": "key"}[request.sort_target]
            kvs.sort(key=operator.attrgetter(attribute), reverse=request.sort_order == "DESCEND")
            kvs = kvs[: request.limit] if request.limit else kvs
        elif not request.limit:
            kvs = [state[key] for key in keys]
        return RangeResult(newest, kvs, len(kvs) < count, count, not request.keys_only)

    def put(self, request: PutRequest) -> PutResult:
        previous = self._put(request)
        self._commit()
        return PutResult(self.revision, previous if request.prev_kv else None)

    def delete(self, request: DeleteRequest) -> DeleteResult:
        result = self._delete(request)
        self._commit()
        return DeleteResult(self.revision, result.deleted, result.previous)

    def path(self, request: TxnRequest) -> Path:
        """Compare, against the state before the transaction, the inner ones too."""
        succeeded = all(map(self._holds, request.compare))
        operations = request.success if succeeded else request.failure
        inner = [self.path(each.request_txn) if each.request_txn is not None else None for each in operations]
        return Path(succeeded, operations, inner)

    def check_path(self, path: Path) -> None:
        """Refuse what cannot be executed, before anything is."""
        self._check_leases(path)
        self._check_revisions(path)

    def execute(self, path: Path) -> TxnResult:
        result = self._execute(path)
        self._commit()
        return result

    def revoke(self, lease: int) -> None:
        """Delete the keys of a lease, as one change."""
        for key in sorted(self.leases.pop(lease)):
            self._remove(self.current[key])
        self._commit()

    def compact(self, revision: int) -> None:
        if revision <= self.compacted:
            raise compacted()
        if revision > self.revision:
            raise future_revision()
        self.compacted = revision
        del self.log[: self.first_change(revision)]

    def first_change(self, revision: int) -> int:
        """Return the place in the log of the first change from a revision on."""
        log = self.log
        place = len(log)
        # Most of the time it is near the end.
        while place and log[place - 1].after.mod >= revision:
            place -= 1
        return place

    def _state_at(self, revision: int) -> dict[bytes, KeyValue]:
        state = dict(self.current)
        for change in chain(reversed(self._pending), reversed(self.log)):
            if change.after.mod <= revision:
                break
            if change.before is None:
                del state[change.after.key]
            else:
                state[change.after.key] = change.before
        return state

    @staticmethod
    def _unsorted(request: RangeRequest) -> bool:
        return request.sort_order == "NONE" or (request.sort_order == "ASCEND" and request.sort_target == "KEY")

    @staticmethod
    def _matching(keys: list[bytes], key: bytes, end: bytes) -> list[bytes]:
        if not end:
            index = bisect_left(keys, key)
            return keys[index : index + 1] if keys[index : index + 1] == [key] else []
        return keys[bisect_left(keys, key) : None if end == TO_THE_END else bisect_left(keys, end)]

    def _holds(self, compare: CompareRequest) -> bool:
        if not compare.range_end:
            return self._compare(compare, self.current.get(compare.key))
        keys = self._matching(self._sorted, compare.key, compare.range_end)
        if not keys:
            return self._compare(compare, None)
        return all(self._compare(compare, self.current[key]) for key in keys)

    @staticmethod
    def _compare(compare: CompareRequest, found: KeyValue | None) -> bool:
        target = compare.target
        if found is None:
            if target == "VALUE":
                return False
            actual = 0
        else:
            actual = getattr(found, _FIELDS[target])
        return bool(_RESULTS[compare.result](actual, getattr(compare, _OPERANDS[target])))

    def _check_leases(self, path: Path) -> None:
        for operation, inner in zip(path.operations, path.inner, strict=True):
            put = operation.request_put
            if inner is not None:
                self._check_leases(inner)
            elif put is not None and put.lease and put.lease not in self.leases:
                raise lease_not_found()

    def _check_revisions(self, path: Path) -> None:
        for operation, inner in zip(path.operations, path.inner, strict=True):
            request = operation.request_range
            if inner is not None:
                self._check_revisions(inner)
            elif request is not None and request.revision:
                if request.revision > self.revision:
                    raise future_revision()
                if request.revision < self.compacted:
                    raise compacted()

    def _execute(self, path: Path) -> TxnResult:
        results: list[Result] = []
        for operation, inner in zip(path.operations, path.inner, strict=True):
            if operation.request_range is not None:
                results.append(self.range(operation.request_range))
            elif operation.request_put is not None:
                previous = self._put(operation.request_put)
                results.append(PutResult(self.revision + 1, previous if operation.request_put.prev_kv else None))
            elif operation.request_delete_range is not None:
                results.append(self._delete(operation.request_delete_range))
            else:
                assert inner is not None
                results.append(self._execute(inner))
        return TxnResult(path.succeeded, results)

    def _put(self, request: PutRequest) -> KeyValue | None:
        key, revision = request.key, self.revision + 1
        before = self.current.get(key)
        if before is None:
            insort(self._sorted, key)
            after = KeyValue(key, revision, revision, 1, request.value, request.lease)
        else:
            after = KeyValue(key, before.create, revision, before.version + 1, request.value, request.lease)
            if before.lease:
                self.leases[before.lease].discard(key)
        if request.lease:
            self.leases[request.lease].add(key)
        self.current[key] = after
        self._pending.append(Change(before, after))
        return before

    def _delete(self, request: DeleteRequest) -> DeleteResult:
        gone = [self.current[key] for key in self._matching(self._sorted, request.key, request.range_end)]
        for kv in gone:
            if kv.lease:
                self.leases[kv.lease].discard(kv.key)
            self._remove(kv)
        revision = self.revision + (1 if self._pending else 0)
        return DeleteResult(revision, len(gone), gone if request.prev_kv else ())

    def _remove(self, kv: KeyValue) -> None:
        del self.current[kv.key]
        del self._sorted[bisect_left(self._sorted, kv.key)]
        self._pending.append(Change(kv, KeyValue(kv.key, 0, self.revision + 1, 0, b"", 0)))

    def _commit(self) -> None:
        if self._pending:
            self.revision += 1
            self.log += self._pending
            self._pending = []


def contains(key: bytes, range_end: bytes, each: bytes) -> bool:
    """Report whether a key is in a range of requests."""
    if not range_end:
        return each == key
    return each >= key and (range_end == TO_THE_END or each < range_end)


def check_txn(request: TxnRequest) -> None:
    """Refuse a transaction for its form."""
    _check_size(request, MAX_OPERATIONS)
    _check_overlap(request.success)
    _check_overlap(request.failure)


def _check_size(request: TxnRequest, most: int) -> None:
    # A level's longest list counts against what its inner transactions may have.
    size = max(len(request.compare), len(request.success), len(request.failure))
    if size > most:
        raise Refusal(3, "etcdserver: too many operations in txn request")
    for compare in request.compare:
        if not compare.key:
            raise key_not_provided()
    for operation in (*request.success, *request.failure):
        inner = operation.request_txn
        if inner is not None:
            _check_size(inner, most - size)
            continue
        keyed = operation.request_range or operation.request_put or operation.request_delete_range
        if keyed is None:
            raise Refusal(3, "etcdserver: key not found")
        if not keyed.key:
            raise key_not_provided()


def _check_overlap(operations: Sequence[OperationRequest]) -> tuple[set[bytes], list[Interval]]:
    """Refuse two changes of one key; return the keys put and the intervals deleted."""
    deleted = [_interval(each.request_delete_range) for each in operations if each.request_delete_range is not None]
    puts: set[bytes] = set()
    for each in operations:
        inner = each.request_txn
        if inner is None:
            continue
        puts_then, deleted_then = _check_overlap(inner.success)
        puts_else, deleted_else = _check_overlap(inner.failure)
        # Both branches may put the same key, because only one of them is taken.
        _add(puts, puts_then, deleted, allowed=())
        _add(puts, puts_else, deleted, allowed=puts_then)
        # etcd compares these to what is put later, not to what was put before.
        deleted += deleted_then
        deleted += deleted_else
    _add(puts, [each.request_put.key for each in operations if each.request_put is not None], deleted, allowed=())
    return puts, deleted


def _add(puts: set[bytes], keys: Iterable[bytes], deleted: Sequence[Interval], allowed: Iterable[bytes]) -> None:
    for key in keys:
        if (key in puts and key not in allowed) or (deleted and _intersects(deleted, key)):
            raise Refusal(3, "etcdserver: duplicate key given in txn request")
        puts.add(key)


def _interval(request: DeleteRequest) -> Interval:
    # etcd takes an end of "\0", which is the end of all keys, for a key: that interval is empty.
    return request.key, request.range_end or request.key + b"\0"


def _intersects(deleted: Sequence[Interval], key: bytes) -> bool:
    return any(start <= key < end for start, end in deleted)
