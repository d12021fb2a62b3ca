"""The schemas that operations refer to (JSON Schema 2020-12, as in OpenAPI 3.1)."""

from __future__ import annotations

from rqdisco.core.addresses import MAX_TEXT_BYTES
from rqdisco.core.exports import MAX_BATCH
from rqdisco.http.openapi.parts import Object, schema

# White space and control characters, as str.isspace and the category Cc, for any dialect of regular
# expressions.
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
    "description": "The address of a client host, or `@` and the incarnation of the daemon that runs on it.",
}
_MOMENT: Object = {
    "type": "string",
    "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}$",
    "description": "UTC, in the format of the original service.",
}


def _text(before: str = "") -> Object:
    return {"type": "string", "minLength": 1, "maxLength": MAX_TEXT_BYTES, "pattern": f"^{before}[^{_SPACES}]+$"}


def _or_null(of: Object) -> Object:
    return {"anyOf": [of, {"type": "null"}]}


def _object(description: str, required: Object, optional: Object | None = None) -> Object:
    members = {**required, **(optional or {})}
    return {"type": "object", "description": description, "required": list(required), "properties": members}


def _list(of: Object) -> Object:
    return {"type": "array", "items": of}


_DOCUMENT = {"created_at": _MOMENT, "disco_id": schema("ID"), "nodes": _list(schema("Text"))}
_NODE = {"addr": schema("Text")}
_OPTIONAL_NODE = {"raft_addr": schema("Text"), "node_id": schema("Text")}
_SHOWN_NODE = {
    **_OPTIONAL_NODE,
    "leader": {"const": True},
    "up": _FLAG,
    "unresolved": {
        "const": True,
        "description": "Its host name does not resolve here, so it is not known whether it is up.",
    },
    "ready": _FLAG,
    "since": {"type": "number", "minimum": 0, "description": "Seconds since it became up, down or unresolved."},
    "checked": {"type": "number", "minimum": 0, "description": "Seconds since it was last probed."},
    "why": {"enum": ["refused", "no_answer", "closed", "unreachable"]},
    "unconfirmed": {
        "const": True,
        "description": "This daemon registered it on the owner's behalf, and the owner has not confirmed it yet.",
    },
}
_TRANSFERRED = {"id": schema("ID"), "created_at": {"type": "integer", "minimum": 0, "maximum": 253402300799999999}}
_MORE_TRANSFERRED = {
    "home": {"type": "string", "pattern": _OWNER},
    "nodes": _list(_object("A node.", _NODE, _OPTIONAL_NODE)),
    "leader": _object(
        "The leader key, with the address under which its node is listed.",
        {"value": _STRING},
        {
            "flags": NUMBER,
            "addr": _STRING,
            "reported": _FLAG,
            "claims": {**COUNT, "description": "How often its hidden claim was granted."},
        },
    ),
    "host": {
        "type": "string",
        "description": "The only client host that may register, because of loopback addresses.",
    },
}

SCHEMAS: dict[str, Object] = {
    "ID": {"type": "string", "pattern": _ID, "description": "A discovery ID; reserved names are not allowed."},
    "Text": {
        **_text(),
        "description": f"Up to {MAX_TEXT_BYTES} bytes of UTF-8 without white space and control characters.",
    },
    "Document": _object(
        "The document that rqlite 3.12 to 6.10 read: the nodes, in the order of their registration.", _DOCUMENT
    ),
    "FullDocument": _object(
        "The document, and everything known of each node.",
        {
            **_DOCUMENT,
            "registrations": _list(
                _object("A node; from `up` on, the results of probes.", _NODE, _SHOWN_NODE),
            ),
        },
        {
            "leader": _object(
                "The leader's report; `reported` is false while it has only claimed to lead.",
                {"addr": _STRING, "index": COUNT, "reported": _FLAG},
                {"id": _STRING, "api_addr": _STRING},
            ),
            "claim": _object(
                "A node claimed to lead, and is hidden until it reports itself.",
                {
                    "since": {
                        "type": "string",
                        "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$",
                        "description": "When it first won, in UTC.",
                    },
                    "answered": {
                        "type": "integer",
                        "minimum": 1,
                        "description": "How often it was granted.",
                    },
                },
            ),
            "orphaned": {"const": True, "description": "The ID is ownerless: no node is told to bootstrap under it."},
            "two_leaders": {
                **_list(schema("Text")),
                "minItems": 2,
                "maxItems": 2,
                "description": "The Raft addresses of two leaders that both report themselves: there are two clusters.",
            },
        },
    ),
    "Explanation": _object(
        "Everything known of an ID. `may_grant` is true if this daemon can tell a node to bootstrap.",
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
                    "The node that was last told to bootstrap, and its client host; `at` is in milliseconds since the"
                    " owner's boot `boot`.",
                    {"addr": _STRING, "boot": COUNT, "at": COUNT, "pending": _FLAG, "host": _HOST},
                )
            ),
            "emptied_before": _FLAG,
            "confirmed": _FLAG,
            "claim": _or_null(_object("A hidden claim; `times` is how often it was answered.", {"times": COUNT})),
            "host": _HOST,
            "leader": {"type": ["string", "null"]},
            "told": _list(
                _object("An answer of this daemon.", {"at": _MOMENT, "addr": _STRING, "what": _STRING, "listed": COUNT})
            ),
        },
    ),
    "Service": _object(
        "The service: seconds since its start, its IDs, and after how many days one without a node is deleted.",
        {"name": {"const": "rqdisco"}, "version": _STRING, "uptime": COUNT},
        {"ids": COUNT, "unused_days": {"type": "number", "exclusiveMinimum": 0}},
    ),
    "Registration": _object(
        "A node. Unknown members are ignored; the last of repeated members counts.",
        _NODE,
        {name: _or_null(of) for name, of in _OPTIONAL_NODE.items()},
    ),
    "Removal": _object("The address of a node.", _NODE),
    "Error": _object("An error.", {"error": _STRING}),
    "Unavailable": _object(
        "Nothing was changed. `error` is the reason, or `reason` if `error` is `store unavailable`.",
        {"error": _STRING},
        {"reason": _STRING},
    ),
    "LeaderValue": _object(
        "The leader, as rqlite 7 to 10 write it: `addr` is the Raft address, `api_addr` the URL. Null and the empty"
        " string count as absent. Other members are stored; nesting of more than 64 levels is refused.",
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
            "An entry as Consul encodes it; the value is in base64.",
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
        "Nothing is wrong; `notes` are of interest to operators.",
        {"ready": {"const": True}},
        {"wrong": {"type": "array", "maxItems": 0}, "notes": _list(_STRING)},
    ),
    "NotReady": _object(
        "What is wrong, and `notes` of interest to operators.",
        {"ready": {"const": False}},
        {"wrong": _list(_STRING), "notes": _list(_STRING)},
    ),
    "Record": _object("An ID in an export.", _TRANSFERRED, _MORE_TRANSFERRED),
    "Export": _object(
        "All IDs, one a line; `crc` is the CRC-32 of all preceding lines.",
        {
            "format": {"const": "rqdisco export"},
            "version": {"const": 1},
            "count": COUNT,
            "records": _list(schema("Record")),
            "crc": {"type": "string", "pattern": "^[0-9a-f]{8}$"},
        },
    ),
    "Batch": _object(
        "Records of an export. An invalid one is refused, and the others are imported.",
        {
            "records": {
                "type": "array",
                "maxItems": MAX_BATCH,
                "items": _object(
                    "An ID in an export.",
                    {"id": _STRING, "created_at": {"type": "integer"}},
                    {
                        "home": {"type": ["string", "null"]},
                        "nodes": _list(
                            {
                                **_object(
                                    "A node.",
                                    {"addr": _STRING},
                                    {name: {"type": ["string", "null"]} for name in _OPTIONAL_NODE},
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
        "The outcome.",
        {
            "imported": COUNT,
            "unchanged": COUNT,
            "refused": _list(_object("A record that was refused.", {"id": _STRING, "why": _STRING})),
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
                    "A peer. One that was never reached has only `url`, `state` and `why`.",
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
    "Forgotten": _object("How many IDs have a new owner.", {"forgotten": _STRING, "ids": COUNT}),
    "Drain": _object("The peer that takes over; any peer if none is named.", {}, {"to": {"type": ["string", "null"]}}),
    "Drained": _object("The peer that took over.", {"drained": {"const": True}, "to": _STRING}),
    "OpenAPI": {"type": "object", "required": ["openapi", "info", "paths"], "description": "This document."},
}
