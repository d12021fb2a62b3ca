"""Users, roles and tokens of the model etcd."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tests.support.etcd.keyspace import TO_THE_END
from tests.support.etcd.wire import AuthRequest, Permission, Refusal, TxnRequest

ROOT = "root"
TOKEN_SECONDS = 300.0


class User(msgspec.Struct):
    password: str
    roles: set[str] = msgspec.field(default_factory=set)


def permission_denied() -> Refusal:
    return Refusal(7, "etcdserver: permission denied")


def invalid_token() -> Refusal:
    return Refusal(16, "etcdserver: invalid auth token")


class Accounts:
    """Users and their permissions. Tokens end after five minutes without use, and when etcd restarts."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.enabled = False
        self.users: dict[str, User] = {}
        self.roles: dict[str, list[Permission]] = {}
        self.tokens: dict[str, tuple[str, float]] = {}
        self._now = now
        self._issued = 0

    def copy(self) -> Accounts:
        """Return a copy without tokens, which are in memory only."""
        copy = Accounts(self._now)
        copy.enabled = self.enabled
        copy.users = {name: User(user.password, set(user.roles)) for name, user in self.users.items()}
        copy.roles = {name: list(permissions) for name, permissions in self.roles.items()}
        copy._issued = self._issued
        return copy

    def user_of(self, token: str | None) -> str | None:
        """Return the user of a token, None without one."""
        if token is None:
            return None
        user, until = self.tokens.get(token, ("", 0.0))
        if until <= self._now():
            raise invalid_token()
        self.tokens[token] = (user, self._now() + TOKEN_SECONDS)
        return user

    def authenticate(self, name: str, password: str) -> str:
        if not self.enabled:
            raise Refusal(9, "etcdserver: authentication is not enabled")
        user = self.users.get(name)
        if user is None or user.password != password:
            raise Refusal(3, "etcdserver: authentication failed, invalid user ID or password")
        self._issued += 1
        token = f"ModelEtcdModelEt.{self._issued}"
        self.tokens[token] = (name, self._now() + TOKEN_SECONDS)
        return token

    def check(self, user: str | None, key: bytes, range_end: bytes, kind: str) -> None:
        """Refuse a user without permission for a range."""
        if not self.enabled:
            return
        if user is None:
            raise Refusal(3, "etcdserver: user name is empty")
        account = self.users.get(user)
        if account is None:
            raise permission_denied()
        if ROOT in account.roles:
            return
        for role in account.roles:
            for granted in self.roles.get(role, ()):
                if granted.kind in (kind, "READWRITE") and _within(granted, key, range_end):
                    return
        raise permission_denied()

    def check_txn(self, user: str | None, request: TxnRequest) -> None:
        """Refuse a user without permission for everything in it; etcd does not look into inner
        transactions.
        """
        if not self.enabled:
            return
        for compare in request.compare:
            self.check(user, compare.key, compare.range_end, "READ")
        for operation in (*request.success, *request.failure):
            if operation.request_range is not None:
                self.check(user, operation.request_range.key, operation.request_range.range_end, "READ")
            elif operation.request_put is not None:
                self.check(user, operation.request_put.key, b"", "WRITE")
            elif operation.request_delete_range is not None:
                self.check(user, operation.request_delete_range.key, operation.request_delete_range.range_end, "WRITE")

    def administer(self, path: str, request: AuthRequest, user: str | None) -> None:
        """Do what a request to /v3/auth/ asks for."""
        if self.enabled:
            if user is None:
                raise Refusal(3, "etcdserver: user name is empty")
            account = self.users.get(user)
            if account is None or ROOT not in account.roles:
                raise permission_denied()
        ADMINISTER[path](self, request)

    def _enable(self, _: AuthRequest) -> None:
        if ROOT not in self.users:
            raise Refusal(9, "etcdserver: root user does not exist")
        if ROOT not in self.users[ROOT].roles:
            raise Refusal(9, "etcdserver: root user does not have root role")
        self.enabled = True

    def _disable(self, _: AuthRequest) -> None:
        self.enabled = False
        self.tokens.clear()

    def _add_user(self, request: AuthRequest) -> None:
        if not request.name:
            raise Refusal(3, "etcdserver: user name is empty")
        if request.name in self.users:
            raise Refusal(9, "etcdserver: user name already exists")
        self.users[request.name] = User(request.password)

    def _delete_user(self, request: AuthRequest) -> None:
        self._user(request.name)
        del self.users[request.name]
        self._forget_tokens(request.name)

    def _change_password(self, request: AuthRequest) -> None:
        self._user(request.name).password = request.password
        self._forget_tokens(request.name)

    def _grant_role(self, request: AuthRequest) -> None:
        user = self._user(request.user)
        if request.role != ROOT:
            self._role(request.role)
        user.roles.add(request.role)

    def _add_role(self, request: AuthRequest) -> None:
        if not request.name:
            raise Refusal(3, "etcdserver: role name is empty")
        if request.name in self.roles:
            raise Refusal(9, "etcdserver: role name already exists")
        self.roles[request.name] = []

    def _delete_role(self, request: AuthRequest) -> None:
        self._role(request.role)
        del self.roles[request.role]
        for name, user in self.users.items():
            if request.role in user.roles:
                user.roles.discard(request.role)
                self._forget_tokens(name)

    def _grant_permission(self, request: AuthRequest) -> None:
        self._role(request.name).append(request.perm)

    def _user(self, name: str) -> User:
        if name not in self.users:
            raise Refusal(9, "etcdserver: user name not found")
        return self.users[name]

    def _role(self, name: str) -> list[Permission]:
        if name not in self.roles:
            raise Refusal(9, "etcdserver: role name not found")
        return self.roles[name]

    def _forget_tokens(self, user: str) -> None:
        self.tokens = {token: held for token, held in self.tokens.items() if held[0] != user}


ADMINISTER: dict[str, Callable[[Accounts, AuthRequest], None]] = {
    "enable": Accounts._enable,
    "disable": Accounts._disable,
    "user/add": Accounts._add_user,
    "user/delete": Accounts._delete_user,
    "user/changepw": Accounts._change_password,
    "user/grant": Accounts._grant_role,
    "role/add": Accounts._add_role,
    "role/delete": Accounts._delete_role,
    "role/grant": Accounts._grant_permission,
}


def _within(granted: Permission, key: bytes, range_end: bytes) -> bool:
    if not granted.range_end:
        return not range_end and key == granted.key
    if key < granted.key:
        return False
    if granted.range_end == TO_THE_END:
        return True
    if not range_end:
        return key < granted.range_end
    return range_end != TO_THE_END and range_end <= granted.range_end
