"""etcd's JSON gateway over the model: bytes in, bytes out."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.support.etcd.accounts import ADMINISTER
from tests.support.etcd.gateway_stream import GatewayStream
from tests.support.etcd.keyspace import check_txn
from tests.support.etcd.model import ModelEtcd
from tests.support.etcd.rendering import (
    Answer,
    decode,
    delete_fields,
    header,
    number_field,
    put_fields,
    range_fields,
    refuse,
    txn_fields,
)
from tests.support.etcd.serving import Member, check_key, only_reads
from tests.support.etcd.wire import (
    AlarmRequest,
    AuthRequest,
    CompactionRequest,
    DeleteRequest,
    LeaseRequest,
    PutRequest,
    RangeRequest,
    Refusal,
    TxnRequest,
    base64,
    no_leader,
    timed_out,
)

Route = Callable[[Member, bytes, str | None], str]

TIMEOUT = 7.0  # after which etcd gives up what no majority answers
_LARGE = 2_097_000  # in base64; etcd takes 1.5 MiB


class Gateway:
    """Answers requests to the members of a model etcd that run and do not hang."""

    def __init__(self, model: ModelEtcd) -> None:
        self.model = model
        self._routes: dict[str, Route] = {
            "/v3/kv/range": self._range,
            "/v3/kv/put": self._put,
            "/v3/kv/deleterange": self._delete,
            "/v3/kv/txn": self._txn,
            "/v3/kv/compaction": self._compaction,
            "/v3/lease/grant": self._grant,
            "/v3/lease/revoke": self._revoke,
            "/v3/kv/lease/revoke": self._revoke,
            "/v3/lease/timetolive": self._time_to_live,
            "/v3/kv/lease/timetolive": self._time_to_live,
            "/v3/lease/keepalive": self._keep_alive,
            "/v3/lease/leases": self._leases,
            "/v3/kv/lease/leases": self._leases,
            "/v3/maintenance/status": self._status,
            "/v3/maintenance/alarm": self._alarm,
            "/v3/auth/authenticate": self._authenticate,
        }

    def post(self, name: str, path: str, body: bytes, token: str | None = None) -> Answer:
        """Answer a request to a member."""
        model = self.model
        member = model.members[name]
        model.tick()
        route = self._route(path)
        if route is None:
            return Answer(404, b"Not Found\n")
        if len(body) > _LARGE:
            return refuse(_too_large(body))
        try:
            if not model.serves(member):
                return self._answer_alone(route, member, path, body, token)
            text = route(member, body, token)
        except Refusal as refusal:
            return refuse(refusal)
        model.deliver()
        return Answer(200, text.encode())

    def _route(self, path: str) -> Route | None:
        administer = path.removeprefix("/v3/auth/")
        if administer in ADMINISTER:
            return lambda member, body, token: self._administer(administer, member, body, token)
        return self._routes.get(path)

    def _answer_alone(self, route: Route, member: Member, path: str, body: bytes, token: str | None) -> Answer:
        """Answer as a member that does not hear of a majority."""
        if path == "/v3/maintenance/status" or (path == "/v3/kv/range" and decode(body, RangeRequest).serializable):
            return Answer(200, route(member, body, token).encode())
        if path == "/v3/kv/range":
            return refuse(timed_out(), TIMEOUT)
        if path.endswith("/timetolive"):
            return refuse(timed_out() if member.knows_leader else no_leader(), TIMEOUT)
        if path == "/v3/kv/txn" and _only_reads(body):
            return refuse(timed_out(), 2 * TIMEOUT)
        if not member.knows_leader:
            return refuse(Refusal(2, "context deadline exceeded"), TIMEOUT)
        # It was sent to a leader that may still have it.
        self.model.undecided.append(lambda: route(member, body, token))
        return refuse(timed_out(), TIMEOUT)

    def _header(self, member: Member) -> str:
        return header(self.model, member, self.model.revision_of(member))

    def _range(self, member: Member, body: bytes, token: str | None) -> str:
        request = decode(body, RangeRequest)
        check_key(request)
        result = self.model.range(request, self.model.accounts.user_of(token), member)
        return f"{{{self._header(member)}{range_fields(result)}}}"

    def _put(self, member: Member, body: bytes, token: str | None) -> str:
        request = decode(body, PutRequest)
        check_key(request)
        result = self.model.put(request, self.model.accounts.user_of(token))
        return f"{{{self._header(member)}{put_fields(result)}}}"

    def _delete(self, member: Member, body: bytes, token: str | None) -> str:
        request = decode(body, DeleteRequest)
        check_key(request)
        result = self.model.delete(request, self.model.accounts.user_of(token))
        return f"{{{self._header(member)}{delete_fields(result)}}}"

    def _txn(self, member: Member, body: bytes, token: str | None) -> str:
        request = decode(body, TxnRequest)
        check_txn(request)
        result = self.model.txn(request, self.model.accounts.user_of(token))
        return f"{{{self._header(member)}{txn_fields(result)}}}"

    def _compaction(self, member: Member, body: bytes, token: str | None) -> str:
        self.model.accounts.user_of(token)
        self.model.keyspace.compact(decode(body, CompactionRequest).revision)
        return f"{{{self._header(member)}}}"

    def _grant(self, member: Member, body: bytes, token: str | None) -> str:
        request = decode(body, LeaseRequest)
        self.model.accounts.user_of(token)
        number, ttl = self.model.grant(request.id, request.ttl)
        return f'{{{self._header(member)},"ID":"{number}","TTL":"{ttl}"}}'

    def _revoke(self, member: Member, body: bytes, token: str | None) -> str:
        request = decode(body, LeaseRequest)
        self.model.revoke(request.id, self.model.accounts.user_of(token))
        return f"{{{self._header(member)}}}"

    def _time_to_live(self, member: Member, body: bytes, token: str | None) -> str:
        request = decode(body, LeaseRequest)
        left, granted = self.model.time_to_live(request.id)
        fields = number_field("ID", request.id) + number_field("TTL", left) + number_field("grantedTTL", granted)
        keys = sorted(self.model.keyspace.leases.get(request.id, ())) if request.keys else ()
        if keys:
            fields += ',"keys":[' + ",".join(f'"{base64(key)}"' for key in keys) + "]"
        return f"{{{self._header(member)}{fields}}}"

    def _keep_alive(self, member: Member, body: bytes, token: str | None) -> str:
        number = decode(body, LeaseRequest).id
        ttl = self.model.keep_alive(number)
        return f'{{"result":{{{self._header(member)}{number_field("ID", number)}{number_field("TTL", ttl)}}}}}\n'

    def _leases(self, member: Member, body: bytes, token: str | None) -> str:
        leases = ",".join(f'{{"ID":"{number}"}}' for number in self.model.leases)
        return f"{{{self._header(member)}" + (f',"leases":[{leases}]' if leases else "") + "}"

    def _status(self, member: Member, body: bytes, token: str | None) -> str:
        model = self.model
        leader = model.leader if model.leader is not None else next(iter(model.members.values()))
        errors = [] if member.knows_leader else ["etcdserver: no leader"]
        for alarm, member_id in model.alarms.items():
            errors.append((f"memberID:{member_id} " if member_id else "") + f"alarm:{alarm} ")
        shown_leader = number_field("leader", leader.id) if member.knows_leader else ""
        shown_errors = f',"errors":{json.dumps(errors)}' if errors else ""
        index = self.model.revision_of(member) + 9
        return (
            f'{{{self._header(member)},"version":"{model.version}"{number_field("dbSize", model.db_size)}'
            f'{shown_leader},"raftIndex":"{index}","raftTerm":"{model.term}","raftAppliedIndex":"{index}"'
            f"{shown_errors}{number_field('dbSizeInUse', model.db_size)}}}"
        )

    def _alarm(self, member: Member, body: bytes, token: str | None) -> str:
        request = decode(body, AlarmRequest)
        try:
            self.model.accounts.user_of(token)
        except Refusal as refusal:
            raise Refusal(2, "auth: invalid auth token") from refusal
        alarms = self.model.alarms
        kind = request.alarm
        if request.action == "GET":
            shown = {each: member_id for each, member_id in alarms.items() if kind in ("NONE", each)}
        elif request.action == "ACTIVATE":
            alarms.setdefault(kind, request.member_id)
            shown = {kind: alarms[kind]}
        else:
            # Only the alarm of the member that is named, 0 by default.
            raised = alarms.get(kind) == request.member_id
            shown = {kind: alarms.pop(kind)} if raised else {}
        listed = ",".join(
            (f'{{"memberID":"{member_id}",' if member_id else "{") + f'"alarm":"{each}"}}'
            for each, member_id in shown.items()
        )
        return f'{{"alarms":[{listed}]}}' if listed else "{}"

    def _authenticate(self, member: Member, body: bytes, token: str | None) -> str:
        request = decode(body, AuthRequest)
        token = self.model.accounts.authenticate(request.name, request.password)
        return f'{{{self._header(member)},"token":"{token}"}}'

    def _administer(self, path: str, member: Member, body: bytes, token: str | None) -> str:
        accounts = self.model.accounts
        accounts.administer(path, decode(body, AuthRequest), accounts.user_of(token))
        return f"{{{self._header(member)}}}"

    def open(
        self,
        name: str,
        body: bytes,
        token: str | None,
        needs_leader: bool,
        received: Callable[[bytes], None],
        ended: Callable[[bool], None],
    ) -> GatewayStream:
        """Open a stream of watches. `received` is called with each line, and `ended` at the end,
        with True if the connection breaks.
        """
        self.model.tick()
        return GatewayStream(self.model, self.model.members[name], body, token, needs_leader, received, ended)


def _too_large(body: bytes) -> Refusal:
    # Not to the byte: etcd measures the encoding of gRPC.
    size = len(body) * 3 // 4
    if size > 2 << 20:
        return Refusal(8, f"grpc: received message larger than max ({size} vs. {2 << 20})")
    return Refusal(3, "etcdserver: request is too large")


def _only_reads(body: bytes) -> bool:
    request = decode(body, TxnRequest)
    check_txn(request)
    return only_reads(request.success) and only_reads(request.failure)
