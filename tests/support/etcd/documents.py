"""Requests to etcd's gateway and its refusals, as JSON."""

from __future__ import annotations

from tests.support.etcd.encoding import b64
from tests.support.etcd.subjects import Answered


def range_(key: str, **more: object) -> dict[str, object]:
    return {"request_range": {"key": b64(key), **more}}


def put(key: str, value: str = "v", **more: object) -> dict[str, object]:
    return {"request_put": {"key": b64(key), "value": b64(value), **more}}


def delete(key: str, **more: object) -> dict[str, object]:
    return {"request_delete_range": {"key": b64(key), **more}}


def txn(compare: object = (), success: object = (), failure: object = ()) -> dict[str, object]:
    return {"compare": compare, "success": success, "failure": failure}


def inner(compare: object = (), success: object = (), failure: object = ()) -> dict[str, object]:
    return {"request_txn": txn(compare, success, failure)}


def changed_at(key: str, revision: int) -> dict[str, object]:
    return {"key": b64(key), "target": "MOD", "mod_revision": str(revision), "result": "EQUAL"}


def create(key: str, **more: object) -> dict[str, object]:
    return {"create_request": {"key": b64(key), **more}}


def revision(answered: Answered) -> int:
    return int(answered.document["header"]["revision"])


def refused(status: int, code: int, text: str) -> Answered:
    return Answered(status, {"error": text, "message": text, "code": code})


TOO_MANY = refused(400, 3, "etcdserver: too many operations in txn request")
DUPLICATE = refused(400, 3, "etcdserver: duplicate key given in txn request")
NO_KEY = refused(400, 3, "etcdserver: key is not provided")
NO_LEASE = refused(404, 5, "etcdserver: requested lease not found")
NO_SPACE = refused(429, 8, "etcdserver: mvcc: database space exceeded")
COMPACTED = refused(400, 11, "etcdserver: mvcc: required revision has been compacted")
FUTURE = refused(400, 11, "etcdserver: mvcc: required revision is a future revision")
DENIED = refused(403, 7, "etcdserver: permission denied")
BAD_TOKEN = refused(401, 16, "etcdserver: invalid auth token")
NO_USER = refused(400, 3, "etcdserver: user name is empty")
