"""The file that images are built from, and the compose files that use it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from rqdisco import __version__
from rqdisco.cli.commands import Invocation, parse_arguments
from rqdisco.service.options import DaemonOptions

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "oci" / "Containerfile"
COMPOSE = sorted((ROOT / "deploy" / "compose").glob("*.yaml"))
STATE = "/var/lib/rqdisco"


class Instruction(NamedTuple):
    """One instruction, with its arguments on one line."""

    name: str
    arguments: str


def stages() -> list[list[Instruction]]:
    """Return the instructions before the first FROM, and those of each stage."""
    text = re.sub(r"^\s*#.*\n", "", FILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: list[list[Instruction]] = [[]]
    for line in filter(str.strip, text.splitlines()):
        name, _, arguments = line.strip().partition(" ")
        if name == "FROM":
            found.append([])
        found[-1].append(Instruction(name, " ".join(arguments.split())))
    return found


def the(name: str) -> str:
    """Return the arguments of the only instruction of that name in the last stage."""
    (arguments,) = (each.arguments for each in stages()[-1] if each.name == name)
    return arguments


def variables() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in the("ENV").split())


def test_the_image_is_built_on_a_base_that_the_builder_chooses_in_two_stages() -> None:
    before, build, image = stages()
    assert before == [
        Instruction("ARG", "BASE=docker.io/library/python:3.13-slim"),
        Instruction("ARG", "BUILD_BASE=${BASE}"),
    ]
    assert (build[0].arguments, image[0].arguments) == ("${BUILD_BASE} AS build", "${BASE}")
    assert [each.arguments for each in image if each.name == "COPY"] == ["--from=build /opt/rqdisco /opt/rqdisco"]


def test_the_image_has_what_is_installed_and_neither_pip_nor_tests() -> None:
    (install,) = (each.arguments for each in stages()[1] if each.name == "RUN")
    assert "venv --without-pip /opt/rqdisco" in install
    assert "--no-cache-dir" in install
    assert "-name test -o -name tests" in install


def test_everything_that_the_build_copies_is_sent_to_it() -> None:
    copied = [word for each in stages()[1] if each.name == "COPY" for word in each.arguments.split()[:-1]]
    kept = [line[1:] for line in Path(f"{FILE}.dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(copied) == sorted(kept)
    assert all((ROOT / name).exists() for name in kept)


def test_the_daemon_runs_as_a_user_without_rights_that_owns_the_state_directory_alone() -> None:
    assert the("USER") == "10001:10001"
    assert f"os.makedirs('{STATE}', 0o700); os.chown('{STATE}', 10001, 10001)" in the("RUN")
    assert the("RUN").startswith('["/opt/rqdisco/bin/python3", '), "the base needs no shell"
    names = [each.name for each in stages()[-1]]
    assert names.index("RUN") < names.index("USER")


def test_nothing_is_written_outside_of_the_volume() -> None:
    assert the("VOLUME") == STATE
    settings = variables()
    assert settings["PYTHONDONTWRITEBYTECODE"] == "1"
    assert {settings["RQDISCO_DATA_DIR"], str(Path(settings["RQDISCO_OPERATOR_SOCKET"]).parent)} == {STATE}
    assert "/opt/rqdisco/bin/twistd --help" in stages()[1][-1].arguments, "the list of plugins is written by the build"


def test_the_settings_of_the_image_are_settings_of_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables().items():
        if name.startswith("RQDISCO_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("RQDISCO_OPEN", "yes")
    options = DaemonOptions()
    options.parseOptions([])
    assert options.config.data_dir == Path(STATE)
    assert f"tcp:{the('EXPOSE')}:" in variables()["RQDISCO_LISTEN"]


def test_a_stop_ends_the_daemon_by_the_signal_that_drains_it_and_no_shell_is_between() -> None:
    assert the("STOPSIGNAL") == "SIGTERM"
    assert json.loads(the("ENTRYPOINT")) == ["twistd", "--nodaemon", "--pidfile=", "rqdisco"]


def test_the_health_check_is_a_command_that_works_whatever_the_listeners_are() -> None:
    check = the("HEALTHCHECK")
    command = json.loads(check.partition(" CMD ")[2])
    assert command[0] == "rqdisco"
    parsed = parse_arguments(command[1:])
    assert isinstance(parsed, Invocation)
    assert parsed.url == f"unix:{variables()['RQDISCO_OPERATOR_SOCKET']}"
    assert "--timeout=10s" in check


def test_the_image_names_the_version_of_the_project() -> None:
    assert f'org.opencontainers.image.version="{__version__}"' in the("LABEL")


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.name)
def test_compose_builds_and_runs_the_image_without_rights(path: Path) -> None:
    services = yaml.safe_load(path.read_text())["services"]
    ours = [service for service in services.values() if service.get("image") == "rqdisco"]
    assert ours
    for service in ours:
        assert (path.parent / service["build"]["context"] / service["build"]["dockerfile"]).resolve() == FILE
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert any(volume.endswith(f":{STATE}") for volume in service["volumes"])
