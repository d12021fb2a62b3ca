"""The list of IDs for operators: search, pages, and nobody else sees it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rqdisco.http.api import cluster_search
from tests.http.test_operator import Operator
from tests.support.backends import new_daemon
from tests.support.daemon import create_id, register

pytestmark = pytest.mark.usefixtures("each_backend")

A, B = "10.0.0.1:4001", "Node-B.example:4001"
VALUE = {"id": "1", "api_addr": "http://h:1", "addr": "h:2"}


def listed(operator: Operator, query: str = "") -> dict[str, Any]:
    status, content = operator.ask("GET", f"/operator/clusters{query}")
    assert status == 200, content
    page: dict[str, Any] = json.loads(content)
    return page


def ids(page: dict[str, Any]) -> list[str]:
    return [each["disco_id"] for each in page["clusters"]]


def all_ids(operator: Operator, query: str) -> tuple[list[str], int]:
    """Return the IDs of all pages, and the number of pages."""
    found: list[str] = []
    after, pages = "", 0
    while True:
        page = listed(operator, f"?{query}{after}")
        found += ids(page)
        pages += 1
        if page["next"] is None:
            return found, pages
        after = f"&after={page['next']}"


def test_an_operator_sees_each_id_with_its_nodes_its_age_and_its_leader() -> None:
    daemon = new_daemon()
    operator = Operator(daemon)
    operator.ask("PUT", "/orders")
    daemon.clock.advance(90)
    register(daemon, "orders", A)
    operator.ask("PUT", "/v1/kv/orders/leader", VALUE)
    (shown,) = listed(operator)["clusters"]
    assert (shown["disco_id"], shown["age"], shown["nodes"], shown["leader"]) == ("orders", 90, 2, "h:1")
    assert shown["reported"] == "2026-11-18T11:08:10Z"
    assert shown["created_at"].startswith("2026-11-18 11:06:40")


def test_an_empty_daemon_has_an_empty_list() -> None:
    assert listed(Operator(new_daemon())) == {"clusters": [], "next": None}


def test_a_search_finds_parts_of_ids_and_addresses_in_any_case() -> None:
    daemon = new_daemon()
    operator = Operator(daemon)
    for name in ("orders", "Orders-test", "users"):
        operator.ask("PUT", f"/{name}")
    register(daemon, "users", B)
    operator.ask("POST", "/orders", {"addr": A, "raft_addr": "10.0.0.1:4999"})
    assert ids(listed(operator, "?search=ORDER")) == ["Orders-test", "orders"]
    assert ids(listed(operator, "?search=node-b.EXAMPLE")) == ["users"]
    assert ids(listed(operator, "?search=:4999")) == ["orders"]
    assert ids(listed(operator, "?search=10.0.0.2")) == []
    assert ids(listed(operator, "?search=created")) == [], "names of fields are not searched"
    assert ids(listed(operator, "?search=%22")) == []


def test_an_operator_lists_the_ids_of_one_health_by_the_same_verdict_as_a_lookup() -> None:
    operator = Operator(new_daemon())
    for name in ("empty", "led"):
        operator.ask("PUT", f"/{name}")
    operator.ask("PUT", "/v1/kv/led/leader", VALUE)
    healthy = listed(operator, "?health=healthy")["clusters"]
    assert [each["disco_id"] for each in healthy] == ["led"]
    assert ids(listed(operator, "?health=forming")) == ["empty"]
    assert ids(listed(operator, "?health=no+quorum")) == []
    verdict = json.loads(operator.ask("GET", "/led")[1])["health"]
    assert (healthy[0]["health"], healthy[0]["reason"]) == (verdict["verdict"], verdict["reason"])


def test_a_node_that_no_api_shows_is_not_found() -> None:
    operator = Operator(new_daemon())
    operator.ask("PUT", "/v1/kv/orders/leader?cas=0", VALUE)
    assert ids(listed(operator, "?search=h:2")) == []
    (shown,) = listed(operator)["clusters"]
    assert (shown["nodes"], "leader" in shown) == (0, False)


def test_pages_follow_each_other_in_the_order_of_ids_without_gaps_or_repeats() -> None:
    daemon = new_daemon()
    created = sorted(create_id(daemon) for _ in range(120))
    assert all_ids(Operator(daemon), "limit=50") == (created, 3)
    assert all_ids(Operator(daemon), "limit=40") == (created, 3), "no empty page follows the last"
    assert all_ids(Operator(daemon), "limit=1000") == (created, 1)
    assert len(ids(listed(Operator(daemon)))) == 100


def test_ids_created_or_removed_between_pages_move_nothing() -> None:
    daemon = new_daemon()
    operator = Operator(daemon)
    for name in ("b", "d", "f"):
        operator.ask("PUT", f"/{name}")
    first = listed(operator, "?limit=2")
    for name in ("a", "c", "e"):
        operator.ask("PUT", f"/{name}")
    assert (ids(first), ids(listed(operator, "?after=d"))) == (["b", "d"], ["e", "f"])


def test_a_long_search_without_a_result_is_answered_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_search, "_MAX_EXAMINED", 100)
    daemon = new_daemon()
    created = sorted(create_id(daemon) for _ in range(250))
    register(daemon, created[-1], "é:1")
    found, pages = all_ids(Operator(daemon), "search=%C3%A9:")
    assert found == [created[-1]]
    assert pages <= 3


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("limit=0", "`limit` must be from 1 to 1000"),
        ("limit=1001", "`limit` must be from 1 to 1000"),
        ("limit=-1", "`limit` must be from 1 to 1000"),
        ("limit=x", "`limit` must be from 1 to 1000"),
        ("limit=%C2%B2", "`limit` must be from 1 to 1000"),
        (
            "health=ill",
            "`health` must be one of forming, healthy, degraded, no quorum, waiting, two leaders, ownerless, unknown",
        ),
        ("after=..", "`after` must be the `next` of a page"),
        ("search=%ff", "`search` and `after` must be UTF-8"),
        (f"search={'x' * 201}", "`search` has more than 200 characters"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused(query: str, error: str) -> None:
    status, content = Operator(new_daemon()).ask("GET", f"/operator/clusters?{query}")
    assert (status, json.loads(content)) == (400, {"error": error})


def test_a_listener_without_tokens_lists_no_ids_because_whoever_knows_one_can_register() -> None:
    daemon = new_daemon()
    create_id(daemon)
    assert Operator(daemon, public=True).ask("GET", "/operator/clusters")[0] == 404


def test_an_id_named_clusters_is_an_id_like_any_other() -> None:
    operator = Operator(new_daemon())
    assert operator.ask("PUT", "/clusters")[0] == 201
    assert operator.ask("GET", "/clusters")[0] == 200
    assert ids(listed(operator)) == ["clusters"]
