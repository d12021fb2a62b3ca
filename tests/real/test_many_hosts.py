"""Real rqlited left at its default addresses, on hosts other than the daemon's."""

from __future__ import annotations

import pytest

from tests.real.nodes import assert_one_cluster
from tests.real.scenes import Scene

pytestmark = pytest.mark.process

DEFAULT = ("localhost:4001", "localhost:4002")


def test_three_nodes_on_one_host_form_one_cluster_through_a_remote_daemon(many_hosts: Scene) -> None:
    for port in (4001, 4003, 4005):
        many_hosts.node(addresses=(f"localhost:{port}", f"localhost:{port + 1}"), on=1)
    for node in many_hosts.nodes:
        node.start()
    assert_one_cluster(many_hosts.nodes)
    assert sorted(many_hosts.daemon.nodes(many_hosts.id)) == ["localhost:4001", "localhost:4003", "localhost:4005"]


def test_one_of_three_hosts_left_at_the_default_leads_and_the_others_are_told_what_is_wrong(many_hosts: Scene) -> None:
    first, *others = (many_hosts.node(addresses=DEFAULT, on=number) for number in (1, 2, 3))
    first.start()
    assert_one_cluster([first])
    for node in others:
        node.start()
        assert node.exit_status() == 1, node.log
        assert "set -http-adv-addr" in node.log
    assert_one_cluster([first])
