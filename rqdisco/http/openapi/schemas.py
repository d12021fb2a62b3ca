"""The schemas that operations refer to (JSON Schema 2020-12, as OpenAPI 3.1 has it)."""

from __future__ import annotations

from typing import Any

from rqdisco.core.addresses import MAX_BYTES
from rqdisco.core.exports import MAX_BATCH
from rqdisco.http.openapi.parts import Object, schema

# No white space and no control characters: as str.isspace and the category Cc, in any dialect of
# regular expressions.
_SPACES = r"\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_ID = r"^(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}$"
_OWNER = "^[0-9a-f]{16}$"
MOST = 2**64 - 1

COUNT: Object = {"type": "integer", "minimum": 0}
NUMBER: Object = {"type": "integer", "minimum": 0, "maximum": MOST}
_STRING: Object = {"type": "string"}
_FLAG: Object = {"type": "boolean"}
_HOST: Object = {
    "type": ["string", "null"],
    "description": "The address of a machine, or `@` and the incarnation of the daemon that is on it.",
}
_MOMENT: Object = {
    "type": "string",
    "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}$",
    "description": "UTC, as the original service wrote it.",
}


def _text(before: str = "") -> Object:
    return {"type": "string", "minLength": 1, "maxLength": MAX_BYTES, "pattern": f"^{before}[^{_SPACES}]+$"}


def _or_null(of: Object) -> Object:
    return {"anyOf": [of, {"type": "null"}]}


def _object(description: str, required: dict[str, Any], optional: dict[str, Any] | None = None) -> Object:
    members = {**required, **(optional or {})}
    return {"type": "object", "description": description, "required": list(required), "properties": members}


def _list(of: Object) -> Object:
    return {"type": "array", "items": of}


_DOCUMENT = {"created_at": _MOMENT, "disco_id": schema("ID"), "nodes": _list(schema("Text"))}
_NODE = {"addr": schema("Text")}
_MORE_OF_A_NODE = {"raft_addr": schema("Text"), "node_id": schema("Text")}
_SHOWN_OF_A_NODE = {
    **_MORE_OF_A_NODE,
    "leader": {"const": True},
    "up": _FLAG,
    "unresolved": {
        "const": True,
        "description": "Its host name has no addresses here, so it is not known whether it is up.",
    },
    "ready": _FLAG,
    "since": {"type": "number", "minimum": 0, "description": "Seconds for which it has been up, down or unresolved."},
    "checked": {"type": "number", "minimum": 0, "description": "Seconds since it was last probed."},
    "why": {"enum": ["refused", "no_answer", "closed", "unreachable"]},
    "unconfirmed": {
        "const": True,
        "description": "This daemon answered it on the owner's behalf, and the owner has not confirmed it yet.",
    },
}
_TRANSFERRED = {"id": schema("ID"), "created_at": {"type": "integer", "minimum": 0, "maximum": 253402300799999999}}
_MORE_TRANSFERRED = {
    "home": {"type": "string", "pattern": _OWNER},
    "nodes": _list(_object("A node.", _NODE, _MORE_OF_A_NODE)),
    "leader": _object(
        "The leader key, with the address its node is listed by.",
        {"value": _STRING},
        {
            "flags": NUMBER,
            "addr": _STRING,
            "reported": _FLAG,
            "claims": {**COUNT, "description": "How often its node was told that it won a claim that is hidden."},
        },
    ),
    "host": {
        "type": "string",
        "description": "The only machine that may register beside loopback addresses.",
    },
}

SCHEMAS: dict[str, Object] = {
    "ID": {"type": "string", "pattern": _ID, "description": "A discovery ID, none of the service's own names."},
    "Text": {
        **_text(),
        "description": f"Up to {MAX_BYTES} bytes of UTF-8 without white space and control characters.",
    },
    "Document": _object("What rqlite 3.12 to 6.10 read: who is registered, in the order of registrations.", _DOCUMENT),
    "FullDocument": _object(
        "The document, and all that is known of each node.",
        {
            **_DOCUMENT,
            "registrations": _list(
                _object("A node; from `up` on, what probes have seen of it.", _NODE, _SHOWN_OF_A_NODE),
            ),
        },
        {
            "leader": _object(
                "What the leader reported; `reported` is false as long as it has only claimed leadership.",
                {"addr": _STRING, "index": COUNT, "reported": _FLAG},
                {"id": _STRING, "api_addr": _STRING},
            ),
            "claim": _object(
                "A node claimed to lead, and is shown once it reports itself.",
                {
                    "since": {
                        "type": "string",
                        "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$",
                        "description": "When it won first, in UTC.",
                    },
                    "answered": {"type": "integer", "minimum": 1, "description": "How often it was told that it won."},
                },
            ),
            "orphaned": {"const": True, "description": "The ID lost its home, and seeds no cluster any more."},
            "two_leaders": {
                **_list(schema("Text")),
                "minItems": 2,
                "maxItems": 2,
                "description": "The Raft addresses of two leaders that both report themselves, so of two clusters.",
            },
        },
    ),
    "Explanation": _object(
        "All that is known of an ID: `may_grant` says whether anybody can be told here that it is alone.",
        {
            "disco_id": schema("ID"),
            "created_at": _MOMENT,
            "home": {"type": "string", "pattern": _OWNER},
            "home_heard": {"type": ["number", "null"], "minimum": 0},
            "was": _list(_STRING),
            "lost": _FLAG,
            "may_grant": _FLAG,
            "version": COUNT,
            "nodes": _list(_STRING),
            "grant": _or_null(
                _object(
                    "Who was told last that it is alone, and on which machine; `at` is in milliseconds of the home's"
                    " boot `boot`.",
                    {"addr": _STRING, "boot": COUNT, "at": COUNT, "pending": _FLAG, "host": _HOST},
                )
            ),
            "emptied_before": _FLAG,
            "confirmed": _FLAG,
            "claim": _or_null(
                _object("A claim whose node is shown only here; `times` is how often it was told.", {"times": COUNT})
            ),
            "host": _HOST,
            "leader": {"type": ["string", "null"]},
            "told": _list(
                _object("An answer of this daemon.", {"at": _MOMENT, "addr": _STRING, "what": _STRING, "listed": COUNT})
            ),
        },
    ),
    "Service": _object(
        "The service: seconds since its start, its IDs, and after how many days one without a node goes.",
        {"name": {"const": "rqdisco"}, "version": _STRING, "uptime": COUNT},
        {"ids": COUNT, "unused_days": {"type": "number", "exclusiveMinimum": 0}},
    ),
    "Registration": _object(
        "A node. What else there is, is ignored; of a member that is given twice the last counts.",
        _NODE,
        {name: _or_null(of) for name, of in _MORE_OF_A_NODE.items()},
    ),
    "Removal": _object("The address of a node.", _NODE),
    "Error": _object("What went wrong.", {"error": _STRING}),
    "Unavailable": _object(
        "Nothing was changed, or can be said. `error` says why, or `reason` does where that is `store unavailable`.",
        {"error": _STRING},
        {"reason": _STRING},
    ),
    "LeaderValue": _object(
        "Who leads, as rqlite 7 to 10 write it: `addr` is the Raft address, `api_addr` the URL. Null and the empty text"
        " are as if they were not there. What else there is, is kept; nested more than 64 times it is refused.",
        {"addr": schema("Text")},
        {
            "api_addr": {"anyOf": [_text("(?!https?://$)"), {"enum": ["", None]}]},
            "id": {"anyOf": [schema("Text"), {"enum": ["", None]}]},
        },
    ),
    "Entries": {
        "type": "array",
        "minItems": 1,
        "maxItems": 1,
        "items": _object(
            "An entry as Consul gives it; the value is in base64.",
            {
                "LockIndex": {"const": 0},
                "Key": _STRING,
                "Flags": NUMBER,
                "Value": {"type": "string", "contentEncoding": "base64", "contentMediaType": "application/json"},
                "CreateIndex": {"type": "integer", "minimum": 1},
                "ModifyIndex": {"type": "integer", "minimum": 1},
            },
        ),
    },
    "Alive": _object("The process answers.", {"alive": {"const": True}, "wrong": {"type": "array", "maxItems": 0}}),
    "Ready": _object(
        "Nothing is wrong; and what an operator should know of.",
        {"ready": {"const": True}},
        {"wrong": {"type": "array", "maxItems": 0}, "notes": _list(_STRING)},
    ),
    "NotReady": _object(
        "What is wrong, and what else an operator should know of.",
        {"ready": {"const": False}},
        {"wrong": _list(_STRING), "notes": _list(_STRING)},
    ),
    "Record": _object("An ID as an export has it.", _TRANSFERRED, _MORE_TRANSFERRED),
    "Export": _object(
        "All IDs, one a line; `crc` is the CRC-32 of all lines before its own.",
        {
            "format": {"const": "rqdisco export"},
            "version": {"const": 1},
            "count": COUNT,
            "records": _list(schema("Record")),
            "crc": {"type": "string", "pattern": "^[0-9a-f]{8}$"},
        },
    ),
    "Batch": _object(
        "Some records of an export. What is wrong with one of them does not stop the others: it is refused.",
        {
            "records": {
                "type": "array",
                "maxItems": MAX_BATCH,
                "items": _object(
                    "An ID as an export has it.",
                    {"id": _STRING, "created_at": {"type": "integer"}},
                    {
                        "home": {"type": ["string", "null"]},
                        "nodes": _list(
                            {
                                **_object(
                                    "A node.",
                                    {"addr": _STRING},
                                    {name: {"type": ["string", "null"]} for name in _MORE_OF_A_NODE},
                                ),
                                "additionalProperties": False,
                            }
                        ),
                        "leader": _or_null(
                            _object(
                                "The leader key.",
                                {"value": _STRING},
                                {
                                    "flags": {"type": "integer"},
                                    "addr": {"type": ["string", "null"]},
                                    "reported": _FLAG,
                                    "claims": {"type": "integer"},
                                },
                            )
                        ),
                    },
                ),
            }
        },
        {"adopt": _FLAG},
    ),
    "Imported": _object(
        "What came of it.",
        {
            "imported": COUNT,
            "unchanged": COUNT,
            "refused": _list(_object("One that was not taken over.", {"id": _STRING, "why": _STRING})),
        },
    ),
    "Peers": _object(
        "This daemon, and its peers.",
        {
            "name": _STRING,
            "incarnation": {"type": "string", "pattern": _OWNER},
            "url": _STRING,
            "state": _STRING,
            "agreed": _FLAG,
            "hints": COUNT,
            "unwitnessed": COUNT,
            "peers": _list(
                _object(
                    "A peer. Of one that was never met only `url`, `state` and `why` are known.",
                    {"url": _STRING, "state": _STRING},
                    {
                        "name": _STRING,
                        "incarnation": {"type": "string", "pattern": _OWNER},
                        "successor": {"type": ["string", "null"]},
                        "last_contact": {"type": ["number", "null"], "minimum": 0},
                        "lag": {"type": ["integer", "null"], "minimum": 0},
                        "clock_offset_ms": {"type": ["number", "null"]},
                        "agrees": _FLAG,
                        "why": {"type": ["string", "null"]},
                    },
                )
            ),
            "notes": _list(_STRING),
        },
    ),
    "Forget": _object("The name of a peer that is lost for good.", {"name": _STRING}),
    "Forgotten": _object("How many IDs have a new home.", {"forgotten": _STRING, "ids": COUNT}),
    "Drain": _object("Who is to take over; if nobody is named, any peer.", {}, {"to": {"type": ["string", "null"]}}),
    "Drained": _object("Who took over.", {"drained": {"const": True}, "to": _STRING}),
    "OpenAPI": {"type": "object", "required": ["openapi", "info", "paths"], "description": "This document."},
}
