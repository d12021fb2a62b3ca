"""Misspelled variables of the environment are warned of, by the daemon and by the command."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from twisted.internet.task import Clock

from rqdisco.service.environment import COMMAND_VARIABLES, unknown_variables
from rqdisco.service.option_table import OPTIONS
from rqdisco.service.options import DaemonOptions
from rqdisco.service.wiring.daemon import build_daemon
from tests.support.any_daemon import memory_system
from tests.support.command import Shell
from tests.unit.test_configuration_page import WRITER


def test_a_misspelled_variable_is_named_with_the_nearest_one() -> None:
    assert unknown_variables({"RQDISCO_MAX_IDZ": "1", "RQDISCO_TOKNE": "x", "RQDISCO_QQQQQQ": "", "PATH": "/"}) == [
        "RQDISCO_MAX_IDZ is not a variable of rqdisco; did you mean RQDISCO_MAX_IDS?",
        "RQDISCO_QQQQQQ is not a variable of rqdisco",
        "RQDISCO_TOKNE is not a variable of rqdisco; did you mean RQDISCO_TOKEN?",
    ]


def test_every_variable_that_is_documented_is_known() -> None:
    documented = {option.variable for option in OPTIONS.values()} | set(WRITER["command_variables"]())
    assert documented >= COMMAND_VARIABLES
    assert unknown_variables(dict.fromkeys(documented, "x")) == []


@pytest.mark.parametrize(
    "name",
    [
        "RQDISCO_SERVICE_HOST",
        "RQDISCO_SERVICE_PORT",
        "RQDISCO_SERVICE_PORT_HTTP",
        "RQDISCO_PORT",
        "RQDISCO_PORT_4000_TCP",
        "RQDISCO_PORT_4000_TCP_ADDR",
        "RQDISCO_PEERS_SERVICE_HOST",
        "RQDISCO_PEERS_PORT_4002_TCP_PROTO",
    ],
)
def test_variables_that_kubernetes_makes_of_a_service_are_not_misspelled(name: str) -> None:
    assert unknown_variables({name: "10.0.0.1"}) == []


def test_the_daemon_warns_when_it_starts(tmp_path: Path, log: list[dict[str, Any]]) -> None:
    options = DaemonOptions({})
    options.parseOptions([f"--data-dir={tmp_path}", "--etcd=http://e:1"])
    environment = {"RQDISCO_MAX_IDZ": "1", "RQDISCO_MAX_IDS": "1"}
    system = memory_system(Clock(), Random(0), wall_us=lambda: 0, fail=pytest.fail, environment=environment)
    build_daemon(options.config, system)
    warnings = [event["why"] for event in log if event["log_level"].name == "warn" and "why" in event]
    assert warnings == ["RQDISCO_MAX_IDZ is not a variable of rqdisco; did you mean RQDISCO_MAX_IDS?"]


@pytest.mark.usefixtures("each_backend")
def test_the_command_warns_too_and_goes_on(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RQDISCO_TOKNE", "x")
    assert shell("create") == 0
    warning = "rqdisco: RQDISCO_TOKNE is not a variable of rqdisco; did you mean RQDISCO_TOKEN?\n"
    assert capsys.readouterr().err == warning
    assert len(shell.lines) == 1
