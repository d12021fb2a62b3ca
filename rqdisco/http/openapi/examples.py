"""Examples. Each is what was really answered, or sent, in `tests/http/test_openapi.py`, which holds
them to that.
"""

from __future__ import annotations

from typing import Any

EXAMPLES: dict[str, Any] = {
    "GET / 200 application/json": {"name": "rqdisco", "version": "1.0.0", "uptime": 0, "ids": 1},
    "POST / 200 application/json": {
        "created_at": "2026-11-18 11:06:43.000000",
        "disco_id": "cd073a5e-4842-8ab4-a8f7-62e6e282657c",
        "nodes": [],
    },
    "POST / 503 application/json": {"error": "store unavailable", "reason": "no space left on device"},
    "GET /{id} 200 application/json": {
        "created_at": "2026-11-18 11:06:40.000000",
        "disco_id": "cd07ac4c-09c2-8206-a7e3-5594aa6b5d0a",
        "nodes": ["10.0.0.1:4001", "10.0.0.2:4001"],
        "registrations": [
            {"addr": "10.0.0.1:4001", "raft_addr": "10.0.0.1:4002", "node_id": "n1", "leader": True},
            {"addr": "10.0.0.2:4001"},
        ],
        "leader": {
            "id": "n1",
            "api_addr": "http://10.0.0.1:4001",
            "addr": "10.0.0.1:4002",
            "index": 1795000002000,
            "reported": True,
        },
    },
    "GET /{id} 404 application/json": {"error": "0a5306d9-5842-851c-a00f-72fe57b0eb16 does not exist"},
    "GET /{id}/events 200 text/event-stream": 'retry: 1000\n\nid: 04acf61951bb7978d6\ndata: {"created_at":"2026-11-18 11:06:40.000000","disco_id":"cd07ac4c-09c2-8206-a7e3-5594aa6b5d0a","nodes":["10.0.0.1:4001","10.0.0.2:4001"],"registrations":[{"addr":"10.0.0.1:4001","raft_addr":"10.0.0.1:4002","node_id":"n1","leader":true,"alone":true,"heard":"2026-11-18T11:06:41Z"},{"addr":"10.0.0.2:4001","heard":"2026-11-18T11:06:43Z"}],"leader":{"id":"n1","api_addr":"http://10.0.0.1:4001","addr":"10.0.0.1:4002","index":1795000002000,"reported":true}}\n\n',
    "GET /{id}/events 404 application/json": {"error": "0a5306d9-5842-851c-a00f-72fe57b0eb16 does not exist"},
    "GET /{id}/events 503 application/json": {"error": "not all peers were contacted yet"},
    "GET /status 404 application/json": {"error": "status does not exist"},
    "GET /{id} 503 application/json": {"error": "not all peers were contacted yet"},
    "POST /{id} 200 application/json": {
        "created_at": "2026-11-18 11:06:40.000000",
        "disco_id": "cd07ac4c-09c2-8206-a7e3-5594aa6b5d0a",
        "nodes": ["10.0.0.1:4001", "10.0.0.2:4001"],
    },
    "POST /{id} body": {"addr": "10.0.0.1:4001", "raft_addr": "10.0.0.1:4002", "node_id": "n1"},
    "POST /{id} 400 application/json": {"error": "invalid address: contains white space"},
    "POST /{id} 404 application/json": {"error": "0a5306d9-5842-851c-a00f-72fe57b0eb16 does not exist"},
    "POST /{id} 409 application/json": {"error": "too many nodes for cd07ac4c-09c2-8206-a7e3-5594aa6b5d0a"},
    "POST /{id} 410 application/json": {
        "error": "0a5306d9-5842-851c-a00f-72fe57b0eb16 lost its home and cannot seed a cluster, mint a new ID"
    },
    "POST /{id} 413 application/json": {"error": "request body too large"},
    "POST /{id} 503 application/json": {"error": "store unavailable", "reason": "no space left on device"},
    "DELETE /{id} 200 application/json": {
        "created_at": "2026-11-18 11:06:40.000000",
        "disco_id": "cd07ac4c-09c2-8206-a7e3-5594aa6b5d0a",
        "nodes": ["10.0.0.1:4001"],
    },
    "DELETE /{id} body": {"addr": "10.0.0.2:4001"},
    "DELETE /{id} 400 application/json": {"error": "address not specified"},
    "DELETE /{id} 404 application/json": {"error": "0a5306d9-5842-851c-a00f-72fe57b0eb16 does not exist"},
    "DELETE /{id} 413 application/json": {"error": "request body too large"},
    "DELETE /{id} 503 application/json": {"error": "store unavailable", "reason": "no space left on device"},
    "GET /v1/kv/{id}/leader 200 application/json": [
        {
            "LockIndex": 0,
            "Key": "cd07ac4c-09c2-8206-a7e3-5594aa6b5d0a/leader",
            "Flags": 0,
            "Value": "eyJpZCI6Im4xIiwiYXBpX2FkZHIiOiJodHRwOi8vMTAuMC4wLjE6NDAwMSIsImFkZHIiOiIxMC4wLjAuMTo0MDAyIn0=",
            "CreateIndex": 1795000002000,
            "ModifyIndex": 1795000002000,
        }
    ],
    "GET /v1/kv/{id}/leader 200 text/plain": '{"id":"n1","api_addr":"http://10.0.0.1:4001","addr":"10.0.0.1:4002"}',
    "GET /v1/kv/{id}/leader 400 text/plain": "recurse and keys are not supported by rqdisco",
    "GET /v1/kv/{id}/leader 503 text/plain": "not all peers were contacted yet",
    "PUT /v1/kv/{id}/leader 200 application/json": True,
    "PUT /v1/kv/{id}/leader body": {"id": "n1", "api_addr": "http://10.0.0.1:4001", "addr": "10.0.0.1:4002"},
    "PUT /v1/kv/{id}/leader 400 text/plain": "leader value must be JSON with addr",
    "PUT /v1/kv/{id}/leader 403 text/plain": "discovery ID orders does not exist",
    "PUT /v1/kv/{id}/leader 404 text/plain": "discovery ID 0a5306d9-5842-851c-a00f-72fe57b0eb16 was created by a daemon that no longer knows it, create a new one",
    "PUT /v1/kv/{id}/leader 409 text/plain": "too many nodes for cd07ac4c-09c2-8206-a7e3-5594aa6b5d0a",
    "PUT /v1/kv/{id}/leader 410 text/plain": "0a5306d9-5842-851c-a00f-72fe57b0eb16 lost its home and cannot seed a cluster, mint a new ID",
    "PUT /v1/kv/{id}/leader 413 text/plain": "Request body too large, max size: 2000 bytes",
    "PUT /v1/kv/{id}/leader 503 text/plain": "store unavailable",
    "DELETE /v1/kv/{id}/leader 200 application/json": True,
    "DELETE /v1/kv/{id}/leader 400 text/plain": "Invalid cas index",
    "DELETE /v1/kv/{id}/leader 503 text/plain": "store unavailable",
    "GET /healthz 200 application/json": {"alive": True, "wrong": []},
    "GET /readyz 200 application/json": {"ready": True, "wrong": [], "notes": []},
    "GET /readyz 503 application/json": {"ready": False, "wrong": ["the daemon is stopping"], "notes": []},
    "GET /operator/export 200 application/json": {
        "format": "rqdisco export",
        "version": 1,
        "count": 1,
        "records": [
            {
                "id": "cd07ac4c-09c2-8206-a7e3-5594aa6b5d0a",
                "created_at": 1795000000000000,
                "home": "cd072cd8be6f9f62",
                "nodes": [
                    {"addr": "10.0.0.1:4001", "raft_addr": "10.0.0.1:4002", "node_id": "n1"},
                    {"addr": "10.0.0.2:4001"},
                ],
                "leader": {
                    "value": '{"id":"n1","api_addr":"http://10.0.0.1:4001","addr":"10.0.0.1:4002"}',
                    "addr": "10.0.0.1:4001",
                },
            }
        ],
        "crc": "5480adc9",
    },
    "POST /operator/import 200 application/json": {
        "imported": 1,
        "unchanged": 0,
        "refused": [{"id": "..", "why": "invalid id: not a text that an ID can have"}],
    },
    "POST /operator/import body": {
        "records": [
            {
                "id": "orders",
                "created_at": 1,
                "nodes": [{"addr": "10.0.0.1:4001", "raft_addr": "10.0.0.1:4002", "node_id": "n1"}],
                "leader": {"value": '{"id":"n1","api_addr":"http://10.0.0.1:4001","addr":"10.0.0.1:4002"}'},
            },
            {"id": "..", "created_at": 1},
        ]
    },
    "POST /operator/import 400 application/json": {
        "error": "bad request body: Expected `array`, got `object` - at `$.records`"
    },
    "POST /operator/import 413 application/json": {"error": "request body too large"},
    "POST /operator/import 503 application/json": {"error": "store unavailable", "reason": "no space left on device"},
    "GET /operator/peers 200 application/json": {
        "name": "a",
        "incarnation": "01704c050f63db34",
        "url": "http://a",
        "state": "established",
        "agreed": False,
        "hints": 0,
        "unwitnessed": 0,
        "peers": [
            {
                "name": "c",
                "incarnation": "49dec2eb32ae81ab",
                "url": "http://c",
                "state": "silent",
                "last_contact": 11.0,
                "lag": 0,
                "clock_offset_ms": 0,
                "agrees": True,
                "why": "refused",
            },
            {
                "name": "b",
                "incarnation": "e310acdc20221f39",
                "url": "http://b",
                "state": "up",
                "last_contact": 0.2,
                "lag": 0,
                "clock_offset_ms": 0,
                "agrees": True,
                "why": None,
            },
        ],
        "notes": ["c does not answer"],
    },
    "GET /operator/peers 404 application/json": {"error": "this daemon has no peers"},
    "POST /operator/peers/forget 200 application/json": {"forgotten": "c", "ids": 0},
    "POST /operator/peers/forget body": {"name": "c"},
    "POST /operator/peers/forget 400 application/json": {
        "error": "bad request body: Expected `str`, got `int` - at `$.name`"
    },
    "POST /operator/peers/forget 404 application/json": {"error": "this daemon has no peers"},
    "POST /operator/peers/forget 409 application/json": {
        "error": "c answers, or is gone already; drain a peer that answers"
    },
    "POST /operator/peers/forget 413 application/json": {"error": "request body too large"},
    "POST /operator/peers/forget 503 application/json": {
        "error": "store unavailable",
        "reason": "no space left on device",
    },
    "POST /operator/drain 200 application/json": {"drained": True, "to": "b"},
    "POST /operator/drain body": {"to": "b"},
    "POST /operator/drain 400 application/json": {
        "error": "bad request body: Expected `str | null`, got `int` - at `$.to`"
    },
    "POST /operator/drain 404 application/json": {"error": "this daemon has no peers"},
    "POST /operator/drain 409 application/json": {"error": "no peer that could take over answers"},
    "POST /operator/drain 413 application/json": {"error": "request body too large"},
    "POST /operator/drain 503 application/json": {"error": "store unavailable", "reason": "no space left on device"},
    "POST / 403 application/json": {"error": "another site's page may not do this"},
    "POST /{id} 403 application/json": {"error": "another site's page may not do this"},
    "DELETE /{id} 403 application/json": {"error": "another site's page may not do this"},
    "PUT /v1/kv/{id}/leader 403 application/json": {"error": "another site's page may not do this"},
    "DELETE /v1/kv/{id}/leader 403 application/json": {"error": "another site's page may not do this"},
    "POST /operator/import 403 application/json": {"error": "another site's page may not do this"},
    "POST /operator/peers/forget 403 application/json": {"error": "another site's page may not do this"},
    "POST /operator/drain 403 application/json": {"error": "another site's page may not do this"},
    "POST / 429 application/json": {"error": "too many requests"},
    "GET / 401 application/json": {"error": "unknown token"},
    "POST / 401 application/json": {"error": "authentication required"},
    "GET /{id} 401 application/json": {"error": "authentication required"},
    "GET /{id} 403 application/json": {"error": "token may not read cd07ac4c-09c2-8206-a7e3-5594aa6b5d0a"},
    "GET /{id}/events 401 application/json": {"error": "authentication required"},
    "GET /{id}/events 403 application/json": {"error": "token may not read cd07ac4c-09c2-8206-a7e3-5594aa6b5d0a"},
    "POST /{id} 401 application/json": {"error": "authentication required"},
    "DELETE /{id} 401 application/json": {"error": "authentication required"},
    "GET /v1/kv/{id}/leader 403 text/plain": "Permission denied",
    "DELETE /v1/kv/{id}/leader 403 text/plain": "Permission denied",
    "GET /status 401 application/json": {"error": "authentication required"},
    "GET /status 403 application/json": {"error": "token may not read status"},
    "GET /operator/export 401 application/json": {"error": "authentication required"},
    "GET /operator/export 403 application/json": {"error": "token may not administer"},
    "POST /operator/import 401 application/json": {"error": "authentication required"},
    "GET /operator/peers 401 application/json": {"error": "authentication required"},
    "GET /operator/peers 403 application/json": {"error": "token may not administer"},
    "POST /operator/peers/forget 401 application/json": {"error": "authentication required"},
    "POST /operator/drain 401 application/json": {"error": "authentication required"},
}
