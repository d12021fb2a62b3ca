"""The JSON of the gateway: requests decoded, answers rendered."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

from tests.support.etcd.keyspace import Change, DeleteResult, PutResult, RangeResult, Result, TxnResult
from tests.support.etcd.serving import Member, ServingEtcd
from tests.support.etcd.wire import Refusal

T = TypeVar("T", bound=msgspec.Struct)

STATUSES = {1: 408, 2: 500, 3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 9: 412, 11: 400, 13: 500, 14: 503, 16: 401}


class Answer(msgspec.Struct, frozen=True, gc=False):
    """An answer, and the seconds that etcd takes for it."""

    status: int
    body: bytes
    after: float = 0.0


_DECODERS: dict[type[msgspec.Struct], msgspec.json.Decoder[Any]] = {}


def decode(body: bytes, kind: type[T]) -> T:
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


def number_field(name: str, value: int) -> str:
    return f',"{name}":"{value}"' if value else ""


def event_json(change: Change, with_previous: bool) -> str:
    kind = "" if change.after.version else '"type":"DELETE",'
    before = f',"prev_kv":{change.before.json()}' if with_previous and change.before is not None else ""
    return f'{{{kind}"kv":{change.after.json()}{before}}}'


def range_fields(result: RangeResult) -> str:
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


def put_fields(result: PutResult) -> str:
    return "" if result.previous is None else f',"prev_kv":{result.previous.json()}'


def delete_fields(result: DeleteResult) -> str:
    previous = ",".join(kv.json() for kv in result.previous)
    return number_field("deleted", result.deleted) + (f',"prev_kvs":[{previous}]' if previous else "")


def txn_fields(result: TxnResult) -> str:
    text = ',"succeeded":true' if result.succeeded else ""
    if result.results:
        text += ',"responses":[' + ",".join([_response(each) for each in result.results]) + "]"
    return text


def _response(result: Result) -> str:
    if isinstance(result, TxnResult):
        return f'{{"response_txn":{{"header":{{}}{txn_fields(result)}}}}}'
    header = f'"header":{{"revision":"{result.revision}"}}'
    if isinstance(result, RangeResult):
        return f'{{"response_range":{{{header}{range_fields(result)}}}}}'
    if isinstance(result, PutResult):
        return f'{{"response_put":{{{header}{put_fields(result)}}}}}'
    return f'{{"response_delete_range":{{{header}{delete_fields(result)}}}}}'


def header(model: ServingEtcd, member: Member, revision: int) -> str:
    """Return the header of an answer of a member at a revision."""
    shown = f'"revision":"{revision}",' if revision else ""
    return f'"header":{{"cluster_id":"{model.cluster_id}","member_id":"{member.id}",{shown}"raft_term":"{model.term}"}}'
