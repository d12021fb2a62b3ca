"""The page that lists IDs, for operators."""

from __future__ import annotations

import re

import pytest

from tests.http.test_operator import Operator
from tests.support.backends import new_daemon
from tests.support.connections import request
from tests.support.daemon import Daemon, register

A = "10.0.0.1:4001"


def read(daemon: Daemon, path: str) -> str:
    """Return the page that an operator's browser shows."""
    operator = Operator(daemon)
    operator.protocol.dataReceived(request("GET", path, Accept="text/html"))
    while any(call.getTime() <= daemon.clock.seconds() for call in daemon.clock.getDelayedCalls()):
        daemon.clock.advance(0)
    answer = operator.take()
    assert answer.startswith(b"HTTP/1.1 200 OK"), answer
    return answer.decode()


def ids(page: str) -> list[str]:
    return re.findall(r'<a href="/([^"]*)">\1</a></td>', page)


def create(daemon: Daemon, *names: str) -> None:
    operator = Operator(daemon)
    for name in names:
        assert operator.ask("PUT", f"/{name}")[0] == 201


@pytest.mark.usefixtures("each_backend")
def test_an_operator_sees_each_id_with_its_health_nodes_leader_and_age() -> None:
    daemon = new_daemon()
    create(daemon, "orders", "users")
    daemon.clock.advance(90)
    Operator(daemon).ask("PUT", "/v1/kv/orders/leader", {"id": "1", "api_addr": f"http://{A}", "addr": "10.0.0.1:4002"})
    page = read(daemon, "/clusters")
    assert ids(page) == ["orders", "users"]
    for cell in ('data-health="healthy"', 'data-health="forming"', "<bdi>10.0.0.1:4001</bdi>", "1 min ago"):
        assert cell in page


@pytest.mark.usefixtures("each_backend")
def test_clusters_are_searched_by_a_part_of_the_id_or_of_an_address_and_by_health() -> None:
    daemon = new_daemon()
    create(daemon, "orders", "users")
    register(daemon, "users", A)
    assert ids(read(daemon, "/clusters?search=ORD")) == ["orders"]
    assert ids(read(daemon, "/clusters?search=10.0.0.1")) == ["users"]
    assert ids(read(daemon, "/clusters?search=&health=forming")) == ["orders"]
    assert "No ID that matches is two leaders." in read(daemon, "/clusters?search=o&health=two+leaders")
    assert "No ID and no address contains “&lt;b&gt;”." in read(daemon, "/clusters?search=%3Cb%3E")


def test_a_page_leads_to_the_next_one_of_the_same_search_and_back_to_the_first() -> None:
    daemon = new_daemon()
    create(daemon, *(f"orders-{number:03}" for number in range(150)))
    first = read(daemon, "/clusters?search=ord")
    assert len(ids(first)) == 100
    following = re.search(r'href="(/clusters\?[^"]*after=[^"]*)"', first)
    assert following is not None
    second = read(daemon, following[1].replace("&amp;", "&"))
    assert ids(second) == [f"orders-{number:03}" for number in range(100, 150)]
    assert 'href="/clusters?search=ord"' in second


def test_a_daemon_without_ids_says_so() -> None:
    assert "No ID has been created yet." in read(new_daemon(), "/clusters")
