"""The HTTP API in one table: every path, its methods, what they need, cost and answer.

The router (`router.py`) answers requests by it, and the OpenAPI document describes it.
"""

from __future__ import annotations

from rqdisco.http.operations import Endpoint
from rqdisco.http.routes.consul_kv import CONSUL_KV
from rqdisco.http.routes.daemon import DAEMON
from rqdisco.http.routes.discovery import DISCOVERY
from rqdisco.http.routes.operator import OPERATOR

ENDPOINTS: tuple[Endpoint, ...] = (*DISCOVERY, *CONSUL_KV, *DAEMON, *OPERATOR)
