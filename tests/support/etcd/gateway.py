"""etcd's JSON gateway over the model: bytes in, bytes out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from tests.support.etcd.accounts import ADMINISTER
from tests.support.etcd.keyspace import Change, DeleteResult, PutResult, RangeResult, Result, TxnResult, check_txn
from tests.support.etcd.model import Member, ModelEtcd, Stream, Watcher, check_key, only_reads
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
    WatchCreateRequest,
    WatchRequest,
    base64,
    no_leader,
    timed_out,
)

T = TypeVar("T", bound=msgspec.Struct)
Route = Callable[[Member, bytes, str | None], str]

TIMEOUT = 7.0  # after which etcd gives up what no majority answers
STATUSES = {1: 408, 2: 500, 3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 9: 412, 11: 400, 13: 500, 14: 503, 16: 401}
_LARGE = 2_097_000  # in base64; etcd takes 1.5 MiB
_NAMES = {2: "Unknown", 3: "InvalidArgument", 7: "PermissionDenied", 16: "Unauthenticated"}
_PHRASES = {14: "Service Unavailable"}


class Answer(msgspec.Struct, frozen=True, gc=False):
    """An answer, and the seconds that etcd takes for it."""

    status: int
    body: bytes
    after: float = 0.0


_DECODERS: dict[type[msgspec.Struct], msgspec.json.Decoder[Any]] = {}


def _decode(body: bytes, kind: type[T]) -> T:
    decoder = _DECODERS.get(kind)
    if decoder is None:
        # Not strict, for integers in strings.
        decoder = _DECODERS[kind] = msgspec.json.Decoder(kind, strict=False)
    try:
        message: T = decoder.decode(body or b"{}")
    except msgspec.DecodeError as error:
        raise Refusal(3, str(error)) from error
    return message


def refuse(refusal: Refusal, after: float = 0.0) -> Answer:
    """Return the answer that reports an error."""
    text = json.dumps(refusal.text)
    body = f'{{"error":{text},"message":{text},"code":{refusal.code}}}'
    return Answer(STATUSES[refusal.code], body.encode(), after)


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
        if path == "/v3/maintenance/status" or (path == "/v3/kv/range" and _decode(body, RangeRequest).serializable):
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
        return self._header_at(member, self.model.revision_of(member))

    def _header_at(self, member: Member, revision: int) -> str:
        model = self.model
        shown = f'"revision":"{revision}",' if revision else ""
        return (
            f'"header":{{"cluster_id":"{model.cluster_id}","member_id":"{member.id}",'
            f'{shown}"raft_term":"{model.term}"}}'
        )

    def _range(self, member: Member, body: bytes, token: str | None) -> str:
        request = _decode(body, RangeRequest)
        check_key(request)
        result = self.model.range(request, self.model.accounts.user_of(token), member)
        return f"{{{self._header(member)}{_range_fields(result)}}}"

    def _put(self, member: Member, body: bytes, token: str | None) -> str:
        request = _decode(body, PutRequest)
        check_key(request)
        result = self.model.put(request, self.model.accounts.user_of(token))
        return f"{{{self._header(member)}{_put_fields(result)}}}"

    def _delete(self, member: Member, body: bytes, token: str | None) -> str:
        request = _decode(body, DeleteRequest)
        check_key(request)
        result = self.model.delete(request, self.model.accounts.user_of(token))
        return f"{{{self._header(member)}{_delete_fields(result)}}}"

    def _txn(self, member: Member, body: bytes, token: str | None) -> str:
        request = _decode(body, TxnRequest)
        check_txn(request)
        result = self.model.txn(request, self.model.accounts.user_of(token))
        return f"{{{self._header(member)}{_txn_fields(result)}}}"

    def _compaction(self, member: Member, body: bytes, token: str | None) -> str:
        self.model.accounts.user_of(token)
        self.model.keyspace.compact(_decode(body, CompactionRequest).revision)
        return f"{{{self._header(member)}}}"

    def _grant(self, member: Member, body: bytes, token: str | None) -> str:
        request = _decode(body, LeaseRequest)
        self.model.accounts.user_of(token)
        number, ttl = self.model.grant(request.id, request.ttl)
        return f'{{{self._header(member)},"ID":"{number}","TTL":"{ttl}"}}'

    def _revoke(self, member: Member, body: bytes, token: str | None) -> str:
        request = _decode(body, LeaseRequest)
        self.model.revoke(request.id, self.model.accounts.user_of(token))
        return f"{{{self._header(member)}}}"

    def _time_to_live(self, member: Member, body: bytes, token: str | None) -> str:
        request = _decode(body, LeaseRequest)
        left, granted = self.model.time_to_live(request.id)
        fields = _number("ID", request.id) + _number("TTL", left) + _number("grantedTTL", granted)
        keys = sorted(self.model.keyspace.leases.get(request.id, ())) if request.keys else ()
        if keys:
            fields += ',"keys":[' + ",".join(f'"{base64(key)}"' for key in keys) + "]"
        return f"{{{self._header(member)}{fields}}}"

    def _keep_alive(self, member: Member, body: bytes, token: str | None) -> str:
        number = _decode(body, LeaseRequest).id
        ttl = self.model.keep_alive(number)
        return f'{{"result":{{{self._header(member)}{_number("ID", number)}{_number("TTL", ttl)}}}}}\n'

    def _leases(self, member: Member, body: bytes, token: str | None) -> str:
        leases = ",".join(f'{{"ID":"{number}"}}' for number in self.model.leases)
        return f"{{{self._header(member)}" + (f',"leases":[{leases}]' if leases else "") + "}"

    def _status(self, member: Member, body: bytes, token: str | None) -> str:
        model = self.model
        leader = model.leader if model.leader is not None else next(iter(model.members.values()))
        errors = [] if member.knows_leader else ["etcdserver: no leader"]
        for alarm, member_id in model.alarms.items():
            errors.append((f"memberID:{member_id} " if member_id else "") + f"alarm:{alarm} ")
        shown_leader = _number("leader", leader.id) if member.knows_leader else ""
        shown_errors = f',"errors":{json.dumps(errors)}' if errors else ""
        index = self.model.revision_of(member) + 9
        return (
            f'{{{self._header(member)},"version":"{model.version}"{_number("dbSize", model.db_size)}{shown_leader},'
            f'"raftIndex":"{index}","raftTerm":"{model.term}","raftAppliedIndex":"{index}"'
            f"{shown_errors}{_number('dbSizeInUse', model.db_size)}}}"
        )

    def _alarm(self, member: Member, body: bytes, token: str | None) -> str:
        request = _decode(body, AlarmRequest)
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
        request = _decode(body, AuthRequest)
        token = self.model.accounts.authenticate(request.name, request.password)
        return f'{{{self._header(member)},"token":"{token}"}}'

    def _administer(self, path: str, member: Member, body: bytes, token: str | None) -> str:
        accounts = self.model.accounts
        accounts.administer(path, _decode(body, AuthRequest), accounts.user_of(token))
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
        return GatewayStream(self, self.model.members[name], body, token, needs_leader, received, ended)


class GatewayStream:
    """The answer to a request to /v3/watch."""

    def __init__(
        self,
        gateway: Gateway,
        member: Member,
        body: bytes,
        token: str | None,
        needs_leader: bool,
        received: Callable[[bytes], None],
        ended: Callable[[bool], None],
    ) -> None:
        self.status = 200
        self._gateway = gateway
        self._model = gateway.model
        self._member = member
        self._token = token
        self._received = received
        self._ended = ended
        self._stream = Stream(member, needs_leader, self._send_changes, self._end)
        try:
            requests = _watch_requests(body)
        except Refusal as refusal:
            self._fail(refuse(refusal))
            return
        if needs_leader and not member.knows_leader:
            self.status = 503
            self._end(no_leader())
            return
        self._model.streams.append(self._stream)
        for request in requests:
            if request.create_request is not None:
                self._create(request.create_request)
            elif request.cancel_request is not None:
                self._cancel(request.cancel_request.watch_id)
        self._model.deliver()

    def close(self) -> None:
        """End it, as a client does."""
        self._model.end(self._stream)

    def _fail(self, answer: Answer) -> None:
        self.status = answer.status
        self._received(answer.body)
        self._ended(False)

    def _create(self, request: WatchCreateRequest) -> None:
        model = self._model
        # Without a key it is the whole keyspace's first key, which never exists.
        try:
            watcher = model.watch(self._stream, request, model.accounts.user_of(self._token))
        except Refusal as refusal:
            text = refusal.text
            if refusal.code:
                text = f"rpc error: code = {_NAMES[refusal.code]} desc = {text}"
            self._send(f',"watch_id":"-1","created":true,"canceled":true,"cancel_reason":{json.dumps(text)}')
        else:
            self._send(f'{_number("watch_id", watcher.id)},"created":true')

    def _cancel(self, number: int) -> None:
        if self._stream.watchers.pop(number, None) is not None:
            self._send(f'{_number("watch_id", number)},"canceled":true')

    def _send_changes(self, watcher: Watcher, compacted: int, changes: Sequence[Change]) -> None:
        number = _number("watch_id", watcher.id)
        if compacted:
            self._send(f'{number},"canceled":true,"compact_revision":"{compacted}"', revision=0)
            return
        events = ",".join(_event(change, watcher.request.prev_kv) for change in changes)
        self._send(f'{number},"events":[{events}]')

    def _send(self, fields: str, revision: int | None = None) -> None:
        if revision is None:
            revision = self._model.revision_of(self._member)
        self._received(f'{{"result":{{{self._gateway._header_at(self._member, revision)}{fields}}}}}'.encode())

    def _end(self, reason: Refusal | None) -> None:
        if reason is not None:
            self._received(
                f'{{"error":{{"grpc_code":{reason.code},"http_code":{STATUSES[reason.code]},'
                f'"message":{json.dumps(reason.text)},"http_status":"{_PHRASES[reason.code]}"}}}}'.encode()
            )
        self._ended(reason is None)


def _too_large(body: bytes) -> Refusal:
    # Not to the byte: etcd measures the encoding of gRPC.
    size = len(body) * 3 // 4
    if size > 2 << 20:
        return Refusal(8, f"grpc: received message larger than max ({size} vs. {2 << 20})")
    return Refusal(3, "etcdserver: request is too large")


def _watch_requests(body: bytes) -> list[WatchRequest]:
    """Parse the documents of a body. What follows the first one may be anything."""
    text, at, requests = body.decode(), 0, []
    decoder = json.JSONDecoder()
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        try:
            _, end = decoder.raw_decode(text, at)
            requests.append(_decode(text[at:end].encode(), WatchRequest))
        except (ValueError, Refusal) as error:
            if requests:
                break
            raise Refusal(2, f"invalid character {text[at]!r} looking for beginning of value") from error
        at = end
    return requests


def _only_reads(body: bytes) -> bool:
    request = _decode(body, TxnRequest)
    check_txn(request)
    return only_reads(request.success) and only_reads(request.failure)


def _number(name: str, value: int) -> str:
    return f',"{name}":"{value}"' if value else ""


def _event(change: Change, with_previous: bool) -> str:
    kind = "" if change.after.version else '"type":"DELETE",'
    before = f',"prev_kv":{change.before.json()}' if with_previous and change.before is not None else ""
    return f'{{{kind}"kv":{change.after.json()}{before}}}'


def _range_fields(result: RangeResult) -> str:
    if not result.count:
        return ""
    text = ""
    if result.kvs:
        if result.with_values:
            text = ',"kvs":[' + ",".join([kv.json() for kv in result.kvs]) + "]"
        else:
            text = ',"kvs":[' + ",".join([kv.json_without_value() for kv in result.kvs]) + "]"
        if result.more:
            text += ',"more":true'
    return f'{text},"count":"{result.count}"'


def _put_fields(result: PutResult) -> str:
    return "" if result.previous is None else f',"prev_kv":{result.previous.json()}'


def _delete_fields(result: DeleteResult) -> str:
    previous = ",".join(kv.json() for kv in result.previous)
    return _number("deleted", result.deleted) + (f',"prev_kvs":[{previous}]' if previous else "")


def _txn_fields(result: TxnResult) -> str:
    text = ',"succeeded":true' if result.succeeded else ""
    if result.results:
        text += ',"responses":[' + ",".join([_response(each) for each in result.results]) + "]"
    return text


def _response(result: Result) -> str:
    if isinstance(result, TxnResult):
        return f'{{"response_txn":{{"header":{{}}{_txn_fields(result)}}}}}'
    header = f'"header":{{"revision":"{result.revision}"}}'
    if isinstance(result, RangeResult):
        return f'{{"response_range":{{{header}{_range_fields(result)}}}}}'
    if isinstance(result, PutResult):
        return f'{{"response_put":{{{header}{_put_fields(result)}}}}}'
    return f'{{"response_delete_range":{{{header}{_delete_fields(result)}}}}}'
