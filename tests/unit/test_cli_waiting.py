"""Commands that take time: `watch`, and `--wait` where the service is not up yet. Only the test
moves the clock.
"""

from __future__ import annotations

import pytest

from rqdisco.backends.limits import Limits
from tests.support.command import URL, A, B, C, Service, Shell, lead
from tests.support.daemon import create_id, register, shown


def test_watch_prints_what_changes(service: Service, shell: Shell, some_id: str) -> None:
    subscriptions = shell.start("watch", some_id, "--interval", "5")
    assert shell.lines == [f"+ {A}", f"+ {B}"]
    service.advance(5)
    service.advance(1)
    assert shell.lines[2:] == []
    register(service.daemon, some_id, C)
    other = Shell(service)
    lead(other, some_id)
    other("remove", some_id, B)
    service.advance(5)
    assert shell.lines[2:] == [f"+ {C}", f"leader {A}", f"- {B}"]
    other("leader", "clear", some_id, "--yes")
    service.advance(5)
    assert shell.lines[5:] == ["leader -"]
    subscriptions.interrupt()
    assert subscriptions.status == 130


def test_watch_waits_for_an_unreachable_service_and_reports_that_once(
    service: Service, shell: Shell, some_id: str
) -> None:
    subscriptions = shell.start("watch", some_id)
    service.away = True
    service.let_go()
    service.advance(2)
    service.advance(2)
    assert shell.messages.count("\n") == 1
    service.away = False
    service.advance(2)
    assert f"{URL} is back" in shell.messages
    assert shell.lines == [f"+ {A}", f"+ {B}"]
    subscriptions.interrupt()


def test_watch_prints_a_change_when_it_happens(service: Service, shell: Shell, some_id: str) -> None:
    subscriptions = shell.start("watch", some_id, "--interval", "3600")
    register(service.daemon, some_id, C)
    service.advance(0.2)
    assert shell.lines[2:] == [f"+ {C}"]
    subscriptions.interrupt()


def test_watch_polls_where_the_service_is_older_or_has_too_many_watchers(
    service: Service, shell: Shell, some_id: str
) -> None:
    for status, reason in ((404, b"{}"), (503, b'{"error": "too many watchers"}')):
        service.answers["/events"] = status, reason
        subscriptions = shell.start("watch", some_id, "--interval", "5")
        assert shell.lines == [f"+ {each}" for each in shown(service.daemon, some_id)]
        register(service.daemon, some_id, f"10.0.1.{status % 250}:4001")
        service.advance(5)
        assert shell.lines[-1] == f"+ 10.0.1.{status % 250}:4001"
        assert shell.messages == ""
        subscriptions.interrupt()


def test_watch_continues_after_a_service_that_stopped_answering(service: Service, shell: Shell, some_id: str) -> None:
    subscriptions = shell.start("watch", some_id)
    service.deaf = True
    service.advance(45)
    assert "no response within 45 s; still watching" in shell.messages
    service.deaf = False
    service.advance(2)
    assert f"{URL} is back" in shell.messages
    subscriptions.interrupt()


def test_watch_ends_where_there_is_nothing_to_watch(shell: Shell) -> None:
    assert shell("watch", "unknown") == 1


def test_watch_prints_a_claim_as_a_claim(service: Service, shell: Shell) -> None:
    lead(shell, "kv", "--cas", "0")
    subscriptions = shell.start("watch", "kv")
    assert shell.lines == ["claimed -"]
    lead(Shell(service), "kv")
    service.advance(0.2)
    assert shell.lines[1:] == [f"+ {A}", f"leader {A}"]
    subscriptions.interrupt()


def test_watch_prints_a_visible_claim_with_its_node() -> None:
    shell = Shell(Service(limits=Limits(visible_claims=True)))
    lead(shell, "kv", "--cas", "0")
    subscriptions = shell.start("watch", "kv")
    assert shell.lines == [f"+ {A}", f"claimed {A}"]
    subscriptions.interrupt()


@pytest.mark.parametrize("command", ["register", "create", "status"])
def test_a_service_that_is_not_up_yet_is_waited_for(service: Service, shell: Shell, command: str) -> None:
    arguments = {"register": ("register", create_id(service.daemon), A), "create": ("create",), "status": ("status",)}
    service.away = True
    waiting = shell.start(*arguments[command], "--wait", "60")
    service.advance(20)
    assert waiting.status is None
    assert "retrying for 60 s" in shell.messages
    assert shell.messages.count("\n") == 1
    service.away = False
    service.advance(8)
    assert waiting.status == 0
    assert len(shell.lines) == 1


def test_waiting_polls_ever_less_often_and_gives_up_in_time(service: Service, shell: Shell) -> None:
    service.away = True
    waiting = shell.start("create", "--wait", "60")
    asked = []
    for _ in range(480):
        service.advance(0.125)
        asked.append(service.asked)
    assert waiting.status == 3
    # Half of 0.25, 0.5, 1, 2, 4 and 8 seconds, then every 4 seconds, and at the very end.
    assert asked[31] == 6
    assert asked[-1] == 21


def test_waiting_lasts_as_long_as_an_unavailable_service_requests(service: Service, shell: Shell) -> None:
    service.daemon.fill()
    waiting = shell.start("create", "--wait", "60")
    service.advance(5)
    assert service.asked == 1
    service.daemon.empty()
    service.advance(0.2)
    assert waiting.status == 0


def test_a_refusal_is_not_retried(shell: Shell) -> None:
    assert shell("register", "unknown", A, "--wait", "60") == 1
    assert shell.messages == (
        "rqdisco: unknown does not exist yet: the first node in consul-kv mode creates it,"
        " or `rqdisco create --name unknown`\n"
    )


def test_a_created_id_that_is_gone_differs_from_a_name_that_a_node_will_create(shell: Shell) -> None:
    unknown = "9af5306d-5842-851c-a00f-72fe57b0eb16"
    assert shell("status", unknown) == 1
    assert shell.messages == f"rqdisco: {unknown} does not exist; `rqdisco create` creates an ID\n"
    assert shell("status", "orders") == 1
    assert shell.messages.startswith(
        "rqdisco: orders does not exist yet: the first node in consul-kv mode creates it, "
    )


def test_ctrl_c_ends_a_wait(service: Service, shell: Shell) -> None:
    service.away = True
    waiting = shell.start("create", "--wait", "60")
    waiting.interrupt()
    assert waiting.status == 130
    assert service.clock.getDelayedCalls() == []


def test_without_wait_an_unreachable_service_is_status_3_at_once(service: Service, shell: Shell) -> None:
    service.away = True
    assert shell("create") == 3
    assert shell.messages.startswith(f"rqdisco: cannot reach {URL}: ")
