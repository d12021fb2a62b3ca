"""Complete commands for nodes: whoever pastes one, with what is marked replaced, starts that node."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
import yaml

from rqdisco.node_commands import PLACEHOLDER, PLATFORMS, Platform, make_command
from rqdisco.recipes.flags import FlagsRequest, Mode, make_flags
from rqdisco.recipes.parsing import Unsupported

VERSIONS: list[tuple[str, Mode]] = [("10", "consul-kv"), ("6", "legacy"), ("3", "legacy"), ("10", "dns-srv")]
ADDRESSES = {
    "10": ["-node-id=node2", "-http-addr=NODE2_IP:4001", "-raft-addr=NODE2_IP:4002"],
    "6": ["-http-addr=NODE2_IP:4001", "-raft-addr=NODE2_IP:4002"],
    "3": ["-http=NODE2_IP:4001", "-raft=NODE2_IP:4002"],
}


def asked(version: str, mode: Mode) -> FlagsRequest:
    zone = "disco.example" if mode == "dns-srv" else None
    url = "http://x:a$b'c@disco.example:4000" if version == "6" else "http://disco.example:4000"
    return FlagsRequest(discovery_id="orders", version=version, mode=mode, url=url, zone=zone, exists=True)


def words(text: str) -> list[str]:
    return shlex.split(text.replace("\\\n", " "))


@pytest.mark.parametrize(("version", "mode"), VERSIONS)
def test_a_plain_command_has_the_flags_of_rqdisco_flags_and_says_who_the_node_is(version: str, mode: Mode) -> None:
    request = asked(version, mode)
    command = words(make_command(request, "shell", 2).text)
    expected = ["rqlited", *ADDRESSES[version], *make_flags(request).arguments, "rqlite-data"]
    assert command[-len(expected) :] == expected


@pytest.mark.parametrize(("version", "mode"), VERSIONS)
def test_docker_runs_rqlited_itself_on_the_network_of_its_machine(version: str, mode: Mode) -> None:
    request = asked(version, mode)
    command = words(make_command(request, "docker", 2).text)
    flags = [*ADDRESSES[version], *make_flags(request).arguments, "/rqlite/file/data"]
    assert command[-len(flags) :] == flags
    assert command[-len(flags) - 3 : -len(flags) - 1] == ["--entrypoint", "rqlited"]


def test_nodes_that_find_each_other_by_name_register_before_they_start() -> None:
    for platform in ("shell", "docker"):
        command = words(make_command(asked("10", "dns-srv"), platform, 2).text)
        assert command[: command.index("&&")][3:6] == ["register", "orders", "NODE2_IP:4001"]
    assert "\nExecStartPre=/usr/bin/env rqdisco" in make_command(asked("10", "dns-srv"), "systemd", 2).text


@pytest.mark.parametrize(("version", "mode"), VERSIONS[:3])
def test_compose_and_kubernetes_files_are_yaml_with_all_flags(version: str, mode: Mode) -> None:
    request = asked(version, mode)
    arguments = [each.replace("$", "$$") for each in make_flags(request).arguments]
    compose = yaml.safe_load(make_command(request, "compose", 2).text)
    assert compose["services"]["rqlite"]["command"] == [*ADDRESSES[version], *arguments, "/rqlite/file/data"]
    service, stateful_set = yaml.safe_load_all(make_command(request, "k8s", 1).text)
    assert (service["kind"], stateful_set["kind"]) == ("Service", "StatefulSet")
    container: dict[str, Any] = stateful_set["spec"]["template"]["spec"]["containers"][0]
    assert container["args"][-len(arguments) - 1 : -1] == arguments
    assert "$(POD).rqlite:4002" in str(container["args"])


def test_a_systemd_unit_is_complete() -> None:
    command = make_command(asked("6", "legacy"), "systemd", 2)
    for section in ("[Unit]", "[Service]", "[Install]"):
        assert section in command.text
    assert command.file == "/etc/systemd/system/rqlited.service"
    assert "a$$b\\'c" in command.text


@pytest.mark.parametrize("platform", ["compose", "k8s"])
def test_where_a_node_cannot_register_itself_the_page_says_what_to_use(platform: Platform) -> None:
    with pytest.raises(Unsupported, match="use consul-kv"):
        make_command(asked("10", "dns-srv"), platform, 1)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_only_what_differs_from_node_to_node_is_to_be_replaced(platform: Platform) -> None:
    found = set(PLACEHOLDER.findall(make_command(asked("10", "consul-kv"), platform, 3).text))
    assert found == (set() if platform == "k8s" else {"NODE3_IP"})
