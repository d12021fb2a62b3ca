"""Examples of answers. `tests/http/test_openapi.py` checks that each is a real one."""

from __future__ import annotations

EXAMPLES: dict[str, object] = {
    "GET / 200 application/json": {"name": "rqdisco", "version": "1.0.0", "uptime": 0, "ids": 1},
    "POST / 200 application/json": {
        "created_at": "2026-11-18 11:06:43.000000",
        "disco_id": "cd073a5e-4842-8ab4-a8f7-62e6e282657c",
        "nodes": [],
    },
    "GET /{id} 200 application/json": {
        "created_at": "2026-11-18 11:06:40.000000",
        "disco_id": "cd07ac4c-09c2-8206-a7e3-5594aa6b5d0a",
        "nodes": ["10.0.0.1:4001", "10.0.0.2:4001"],
        "registrations": [
            {"addr": "10.0.0.1:4001", "raft_addr": "10.0.0.1:4002", "node_id": "n1", "leader": True},
            {"addr": "10.0.0.2:4001"},
        ],
        "health": {
            "verdict": "healthy",
            "reason": "the leader 10.0.0.1:4001 last reported at 2026-11-18T11:06:42Z and is not probed",
            "next_step": "nothing to do",
        },
        "warnings": [],
        "leader": {
            "id": "n1",
            "api_addr": "http://10.0.0.1:4001",
            "addr": "10.0.0.1:4002",
            "index": 1795000002000,
            "reported": True,
        },
    },
    "GET /{id}/events 200 text/event-stream": 'retry: 1000\n\nid: 7575a5932a3b01ac1e\ndata: {"created_at":"2026-11-18 11:06:40.000000","disco_id":"cd07ac4c-09c2-8206-a7e3-5594aa6b5d0a","nodes":["10.0.0.1:4001","10.0.0.2:4001"],"registrations":[{"addr":"10.0.0.1:4001","raft_addr":"10.0.0.1:4002","node_id":"n1","leader":true,"alone":true,"heard":"2026-11-18T11:06:41Z"},{"addr":"10.0.0.2:4001","heard":"2026-11-18T11:06:43Z"}],"health":{"verdict":"healthy","reason":"the leader 10.0.0.1:4001 last reported at 2026-11-18T11:06:42Z and is not probed","next_step":"nothing to do"},"warnings":[],"leader":{"id":"n1","api_addr":"http://10.0.0.1:4001","addr":"10.0.0.1:4002","index":1795000002000,"reported":true}}\n\n',
    "POST /{id} 200 application/json": {
        "created_at": "2026-11-18 11:06:40.000000",
        "disco_id": "cd07ac4c-09c2-8206-a7e3-5594aa6b5d0a",
        "nodes": ["10.0.0.1:4001", "10.0.0.2:4001"],
    },
    "POST /{id} body": {"addr": "10.0.0.1:4001", "raft_addr": "10.0.0.1:4002", "node_id": "n1"},
    "PUT /{id} 201 application/json": {"created_at": "2026-11-18 11:06:43.000000", "disco_id": "orders", "nodes": []},
    "DELETE /{id} 200 application/json": {
        "created_at": "2026-11-18 11:06:40.000000",
        "disco_id": "cd07ac4c-09c2-8206-a7e3-5594aa6b5d0a",
        "nodes": ["10.0.0.1:4001"],
    },
    "DELETE /{id} body": {"addr": "10.0.0.2:4001"},
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
    "PUT /v1/kv/{id}/leader 200 application/json": True,
    "PUT /v1/kv/{id}/leader body": {"id": "n1", "api_addr": "http://10.0.0.1:4001", "addr": "10.0.0.1:4002"},
    "DELETE /v1/kv/{id}/leader 200 application/json": True,
    "GET /healthz 200 application/json": {"alive": True, "wrong": []},
    "GET /readyz 200 application/json": {"ready": True, "wrong": [], "notes": []},
    "GET /operator/clusters 200 application/json": {
        "clusters": [
            {
                "disco_id": "cd07ac4c-09c2-8206-a7e3-5594aa6b5d0a",
                "created_at": "2026-11-18 11:06:40.000000",
                "age": 3,
                "nodes": 2,
                "health": "healthy",
                "reason": "the leader 10.0.0.1:4001 last reported at 2026-11-18T11:06:42Z and is not probed",
                "leader": "10.0.0.1:4001",
                "reported": "2026-11-18T11:06:42Z",
            }
        ],
        "next": None,
    },
    "GET /operator/export 200 application/json": {
        "format": "rqdisco export",
        "version": 2,
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
                "decisions": {"grant": {"addr": "10.0.0.1:4001"}, "confirmed": True},
            }
        ],
        "crc": "4c3ec03c",
    },
    "GET /operator/backup 200 application/json": {
        "format": "rqdisco backup",
        "version": 5,
        "made_at": "2026-11-18 11:06:43",
        "incarnation": "cd072cd8be6f9f62",
        "directory": "/state",
        "boot": 55134029750695,
        "boot_id": "boot-a",
        "last_version": 1795000003000,
        "records": [
            {
                "id": "cd07ac4c-09c2-8206-a7e3-5594aa6b5d0a",
                "home": "cd072cd8be6f9f62",
                "version": 1795000003000,
                "created_at": 1795000000000000,
                "nodes": [
                    {"addr": "10.0.0.1:4001", "raft_addr": "10.0.0.1:4002", "node_id": "n1"},
                    {"addr": "10.0.0.2:4001"},
                ],
                "grant": {"addr": "10.0.0.1:4001", "boot": 55134029750695, "at": 1000, "host": "@cd072cd8be6f9f62"},
                "leader": {
                    "addr": "10.0.0.1:4001",
                    "value": '{"id":"n1","api_addr":"http://10.0.0.1:4001","addr":"10.0.0.1:4002"}',
                    "created": 1795000002000,
                    "modified": 1795000002000,
                },
                "confirmed": True,
            }
        ],
        "count": 1,
        "crc": "63b305d5",
    },
    "POST /operator/import 200 application/json": {
        "imported": 1,
        "unchanged": 0,
        "refused": [{"id": "..", "why": "invalid id: not a discovery ID"}],
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
    "GET /operator/freeze 200 application/json": {"frozen": None, "store": "cd072cd8be6f9f62", "exports": 2},
    "POST /operator/freeze 200 application/json": {
        "frozen": "frozen for a migration to http://b:4000",
        "store": "cd072cd8be6f9f62",
        "exports": 2,
    },
    "POST /operator/freeze body": {"reason": "frozen for a migration to http://b:4000"},
    "POST /operator/thaw 200 application/json": {"frozen": None, "store": "cd072cd8be6f9f62", "exports": 2},
    "GET /operator/peers 200 application/json": {
        "name": "a",
        "incarnation": "01704c050f63db34",
        "url": "http://a",
        "state": "established",
        "agreed": False,
        "hints": 0,
        "unwitnessed": 0,
        "frozen": None,
        "peers": [
            {
                "name": "c",
                "incarnation": "49dec2eb32ae81ab",
                "url": "http://c",
                "state": "silent",
                "last_contact": 10.7,
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
                "last_contact": 0.3,
                "lag": 0,
                "clock_offset_ms": 0,
                "agrees": True,
                "why": None,
            },
        ],
        "notes": ["c does not answer"],
    },
    "GET /operator/peers/forget 200 application/json": {
        "name": "c",
        "incarnation": "49dec2eb32ae81ab",
        "url": "http://c",
        "state": "silent",
        "last_contact": 10.7,
        "ids": 0,
    },
    "POST /operator/peers/forget 200 application/json": {"forgotten": "c", "incarnation": "49dec2eb32ae81ab", "ids": 0},
    "POST /operator/peers/forget body": {"name": "c"},
    "POST /operator/drain 200 application/json": {"drained": True, "to": "b"},
    "POST /operator/drain body": {"to": "b"},
}
