"""Users of the model etcd and of the real one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from tests.support.etcd.encoding import b64

ROOT = "root"
ROOT_PASSWORD = "secret"
USER = "user"
PASSWORD = "word"


class Posts(Protocol):
    """Whatever sends requests to etcd."""

    def post(self, path: str, document: object, token: str | None = None) -> Any:
        """Return an answer with `status` and `document`."""


@contextmanager
def authentication(etcd: Posts, prefix: str) -> Iterator[tuple[str, str]]:
    """Switch authentication on, and off again; give the tokens of root and of a user who may use a
    prefix, which ends with a slash.
    """
    permission = {"permType": "READWRITE", "key": b64(prefix), "range_end": b64(prefix[:-1] + "0")}
    for path, request in (
        ("user/add", {"name": ROOT, "password": ROOT_PASSWORD}),
        ("role/add", {"name": ROOT}),
        ("user/grant", {"user": ROOT, "role": ROOT}),
        ("user/add", {"name": USER, "password": PASSWORD}),
        ("role/add", {"name": "role"}),
        ("role/grant", {"name": "role", "perm": permission}),
        ("user/grant", {"user": USER, "role": "role"}),
        ("enable", {}),
    ):
        assert etcd.post(f"/v3/auth/{path}", request).status == 200, path
    root, user = (
        etcd.post("/v3/auth/authenticate", {"name": name, "password": password}).document["token"]
        for name, password in ((ROOT, ROOT_PASSWORD), (USER, PASSWORD))
    )
    try:
        yield root, user
    finally:
        # The token may have ended, with a member that restarted.
        root = etcd.post("/v3/auth/authenticate", {"name": ROOT, "password": ROOT_PASSWORD}).document["token"]
        assert etcd.post("/v3/auth/disable", {}, root).status == 200
        for name in (ROOT, USER):
            etcd.post("/v3/auth/user/delete", {"name": name})
        for name in (ROOT, "role"):
            etcd.post("/v3/auth/role/delete", {"role": name})
