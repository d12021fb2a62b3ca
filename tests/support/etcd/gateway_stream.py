"""The answer of the gateway to a request for watches: a stream of lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from tests.support.etcd.keyspace import Change
from tests.support.etcd.rendering import STATUSES, Answer, decode, event_json, header, number_field, refuse
from tests.support.etcd.serving import Member, ServingEtcd, Stream, Watcher
from tests.support.etcd.wire import Refusal, WatchCreateRequest, WatchRequest, no_leader

_NAMES = {2: "Unknown", 3: "InvalidArgument", 7: "PermissionDenied", 16: "Unauthenticated"}
_PHRASES = {14: "Service Unavailable"}


class GatewayStream:
    """The answer to a request to /v3/watch."""

    def __init__(
        self,
        model: ServingEtcd,
        member: Member,
        body: bytes,
        token: str | None,
        needs_leader: bool,
        received: Callable[[bytes], None],
        ended: Callable[[bool], None],
    ) -> None:
        self.status = 200
        self._model = model
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
            self._send(f'{number_field("watch_id", watcher.id)},"created":true')

    def _cancel(self, number: int) -> None:
        if self._stream.watchers.pop(number, None) is not None:
            self._send(f'{number_field("watch_id", number)},"canceled":true')

    def _send_changes(self, watcher: Watcher, compacted: int, changes: Sequence[Change]) -> None:
        number = number_field("watch_id", watcher.id)
        if compacted:
            self._send(f'{number},"canceled":true,"compact_revision":"{compacted}"', revision=0)
            return
        events = ",".join(event_json(change, watcher.request.prev_kv) for change in changes)
        self._send(f'{number},"events":[{events}]')

    def _send(self, fields: str, revision: int | None = None) -> None:
        if revision is None:
            revision = self._model.revision_of(self._member)
        self._received(f'{{"result":{{{header(self._model, self._member, revision)}{fields}}}}}'.encode())

    def _end(self, reason: Refusal | None) -> None:
        if reason is not None:
            self._received(
                f'{{"error":{{"grpc_code":{reason.code},"http_code":{STATUSES[reason.code]},'
                f'"message":{json.dumps(reason.text)},"http_status":"{_PHRASES[reason.code]}"}}}}'.encode()
            )
        self._ended(reason is None)


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
            requests.append(decode(text[at:end].encode(), WatchRequest))
        except (ValueError, Refusal) as error:
            if requests:
                break
            raise Refusal(2, f"invalid character {text[at]!r} looking for beginning of value") from error
        at = end
    return requests
