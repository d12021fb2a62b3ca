"""The files in deploy, and the flags in them and in the documentation."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from rqdisco.cli.commands import Invocation, parse_arguments
from rqdisco.cli.static_output import StaticOutput
from rqdisco.core.dns_labels import to_dns_labels
from rqdisco.recipes.flags import FlagsRequest, Mode, make_flags
from rqdisco.service.options import DaemonOptions
from tests.integration.test_systemd import needs

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "deploy" / "rqlite").glob("*.service"))
# The templates of the chart are no YAML yet.
MANIFESTS = sorted(path for path in (ROOT / "deploy").rglob("*.yaml") if "templates" not in path.parts)
JOBS = sorted((ROOT / "deploy" / "nomad").glob("*.hcl"))
ABOUT_NODES = [ROOT / "docs" / "rqlite.md", ROOT / "docs" / "dns.md", *sorted((ROOT / "docs" / "running").glob("*.md"))]
AN_ID = "9af5306d-5842-851c-a00f-72fe57b0eb16"

_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_STRING = re.compile(r'^ *(?:- )?("(?:[^"\\]|\\.)*"),?$', re.MULTILINE)
# On a line of its own, in a comment, or in running text, where it may continue on the next line.
_COMMAND = re.compile(r"(?:^ *(?://|#)? ?|`)(rqdisco flags (?:orders|\$ID) [^`\n]*(?:\n[^`\n]+(?=`))?)", re.MULTILINE)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def split_words(text: str) -> list[str]:
    """Return the words of a line, as a shell and, except for its variables, systemd split them."""
    return shlex.split(text.replace("\\\n", " "))


def node_variables() -> dict[str, str]:
    lines = (ROOT / "deploy" / "rqlite" / "node.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def command_lines(unit: Path) -> Iterator[list[str]]:
    """Return the command lines of a unit, with the variables of the example."""
    text = re.sub(r"\$\{(\w+)\}", lambda match: node_variables()[match[1]], unit.read_text())
    for command in re.findall(r"^Exec\w+=((?:.*\\\n)*.*)$", text, re.MULTILINE):
        yield split_words(command)


def lists_in(document: Any) -> Iterator[list[str]]:
    """Return the commands and arguments anywhere in a manifest."""
    if isinstance(document, dict):
        for name, value in document.items():
            if name in ("command", "args"):
                yield value
            else:
                yield from lists_in(value)
    elif isinstance(document, list):
        for value in document:
            yield from lists_in(value)


def strings_in(text: str) -> list[str]:
    """Return the strings that stand alone on a line, as in lists of YAML and HCL."""
    return [json.loads(string) for string in _STRING.findall(text)]


def argument_lists(path: Path) -> Iterator[list[str]]:
    """Return all argument lists for rqlited in a file."""
    text = path.read_text()
    if path.suffix == ".service":
        yield from command_lines(path)
    elif path.suffix == ".yaml":
        for document in yaml.safe_load_all(text):
            yield from lists_in(document)
    elif path.suffix == ".hcl":
        yield strings_in(text)
    else:
        for _, language, block in _BLOCK.findall(text):
            if language in ("yaml", "hcl"):
                yield strings_in(block)
            elif language == "":
                yield from (split_words(line) for line in block.splitlines() if line.startswith("-disco"))


def discovery_flags(path: Path) -> list[list[str]]:
    """Return the flags of each argument list that a recipe sets."""
    found = (
        [word for word in words if re.match(r"--?(disco|bootstrap-expect|raft-non-voter)", word)]
        for words in argument_lists(path)
    )
    return [flags for flags in found if flags]


def wanted(flags: list[str]) -> FlagsRequest:
    """Return the input for which a recipe would give these flags."""
    given = {name: value for name, _, value in (flag.partition("=") for flag in flags)}
    if "-disco-url" in given:
        return FlagsRequest(discovery_id=given["-disco-id"], version="6.10", mode="legacy", url=given["-disco-url"])
    config = json.loads(given["-disco-config"])
    mode = cast("Mode", given["-disco-mode"])
    if mode == "consul-kv":
        return FlagsRequest(
            discovery_id=given["-disco-key"], version="10", mode=mode, url=f"http://{config['address']}"
        )
    discovery_id, _, zone = config["name"].partition(".")
    return FlagsRequest(
        discovery_id=discovery_id,
        version="7" if config.get("service") == "rqlite-http" else "10",
        mode=mode,
        url="http://localhost",
        zone=zone,
        expect=int(given["-bootstrap-expect"]) if "-bootstrap-expect" in given else None,
        replica="-raft-non-voter" in given,
    )


def commands_in(path: Path) -> Iterator[list[str]]:
    """Return the commands documented to print flags, in comments, blocks and running text."""
    for command in _COMMAND.findall(path.read_text()):
        yield split_words(command.replace("$ID", AN_ID))[1:]


@needs("systemd-analyze")
@pytest.mark.process
@pytest.mark.parametrize("unit", UNITS, ids=named)
def test_systemd_analyze_finds_nothing_wrong_with_rqlites_units(unit: Path, tmp_path: Path) -> None:
    copy = tmp_path / unit.name
    programs = {words[0] for words in command_lines(unit)}
    text = unit.read_text()
    for program in programs:
        text = text.replace(f"={program} ", f"={sys.executable} ")
    copy.write_text(text)

    verified = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)

    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=named)
def test_commands_in_rqlites_units_are_valid(unit: Path) -> None:
    for words in command_lines(unit):
        if words[0].endswith("/rqdisco"):
            assert isinstance(parse_arguments(words[1:]), Invocation)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=named)
def test_manifests_can_be_parsed(manifest: Path) -> None:
    documents = list(yaml.safe_load_all(manifest.read_text()))

    assert documents
    assert all(isinstance(document, dict) for document in documents)


def compose_with_etcd() -> dict[str, Any]:
    """Return the services of the compose file with etcd."""
    document = yaml.safe_load((ROOT / "deploy" / "compose" / "etcd.yaml").read_text())
    return cast("dict[str, Any]", document["services"])


def test_the_daemons_of_the_compose_file_use_all_of_its_members() -> None:
    services = compose_with_etcd()
    advertised = [
        flag.partition("=")[2]
        for service in services.values()
        for flag in service.get("command", ())
        if flag.startswith("--advertise-client-urls=")
    ]
    daemons = [service for service in services.values() if "environment" in service]

    assert (len(advertised), len(daemons)) == (3, 2)
    for daemon in daemons:
        options = DaemonOptions(daemon["environment"])
        options.parseOptions([])
        assert options.config.etcd is not None
        assert list(options.config.etcd.endpoints) == advertised
        assert daemon["depends_on"] == [name for name, service in services.items() if "command" in service]


def test_the_members_of_the_compose_file_differ_by_their_names_alone() -> None:
    members = {name: service for name, service in compose_with_etcd().items() if "command" in service}

    for name, member in members.items():
        flags = [flag for flag in member["command"] if not flag.startswith("--initial-cluster=")]
        assert [flag.replace(name, "etcd1") for flag in flags] == [
            flag for flag in members["etcd1"]["command"] if not flag.startswith("--initial-cluster=")
        ]
        cluster = ",".join(f"{each}=http://{each}:2380" for each in members)
        assert f"--initial-cluster={cluster}" in member["command"]
        assert member["volumes"] == [f"{name}:/var/lib/etcd"]


def test_pods_in_consul_kv_mode_start_without_the_images_delay_for_dns() -> None:
    documents = yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "rqlite.yaml").read_text())
    (nodes,) = [document for document in documents if document["kind"] == "StatefulSet"]
    (container,) = nodes["spec"]["template"]["spec"]["containers"]
    assert {"name": "START_DELAY", "value": "0"} in container["env"]


@pytest.mark.parametrize("path", [*UNITS, *MANIFESTS, *JOBS, *ABOUT_NODES], ids=named)
def test_flags_in_deploy_files_match_the_recipes(path: Path) -> None:
    for flags in discovery_flags(path):
        assert list(make_flags(wanted(flags)).arguments) == flags


def test_the_readme_table_has_the_flags_of_both_ends_of_each_version_range() -> None:
    table = (ROOT / "README.md").read_text().partition("| rqlite | mode | flags |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| ([0-9.]+) to ([0-9.]+) \| (.+?) \| `(.+)` \|$", table, re.MULTILINE)
    assert len(rows) == 5
    for first, last, way, line in rows:
        words = split_words(line.replace("HOST", "h").replace("ZONE", "z").replace("URL", "http://h:4000"))
        shown = re.sub(r"(^| )(-[a-z-]+) (?!-)", r"\1\2=", " ".join(words)).split(" ")
        mode: Any = {"DNS": "dns-srv", "consul-kv": "consul-kv"}.get(way, "legacy")
        zone = "z" if mode == "dns-srv" else None
        for version in (first, last):
            flags = FlagsRequest(discovery_id="ID", version=version, mode=mode, url="http://h:4000", zone=zone)
            made = [flag.replace(to_dns_labels("ID"), "ID") for flag in make_flags(flags).arguments]
            assert made == shown


def test_flags_are_found() -> None:
    without = [named(path) for path in [*UNITS, *MANIFESTS, *JOBS, *ABOUT_NODES] if not discovery_flags(path)]

    assert without == [
        "deploy/compose/etcd.yaml",
        "deploy/helm/etcd.yaml",
        "deploy/helm/peers.yaml",
        "deploy/helm/rqdisco/Chart.yaml",
        "deploy/helm/rqdisco/values.yaml",
        "deploy/helm/rqlite.yaml",
        "deploy/kubernetes/rqdisco-etcd.yaml",
        "deploy/kubernetes/rqdisco-peers.yaml",
        "deploy/kubernetes/rqdisco.yaml",
        "deploy/nomad/rqdisco.nomad.hcl",
        "docs/dns.md",
        "docs/running/autoscaling.md",
        "docs/running/systemd.md",
    ]


@pytest.mark.parametrize("path", [*MANIFESTS, *JOBS, *ABOUT_NODES], ids=named)
def test_the_command_prints_what_the_documents_show(path: Path) -> None:
    shown = discovery_flags(path)
    for command in commands_in(path):
        understood = parse_arguments(command)
        assert isinstance(understood, Invocation)
        assert isinstance(understood.command, StaticOutput)
        printed = understood.command.text
        if printed.startswith(("command:", "args:")):
            ((_, flags),) = yaml.safe_load(printed).items()
        else:
            flags = shlex.split(printed)
        assert flags in shown


def test_commands_are_found() -> None:
    with_commands = {named(path) for path in [*MANIFESTS, *JOBS, *ABOUT_NODES] if list(commands_in(path))}

    assert with_commands == {
        "deploy/compose/compose.yaml",
        "deploy/kubernetes/rqlite.yaml",
        "deploy/nomad/rqlite.nomad.hcl",
        "docs/rqlite.md",
        "docs/running/compose.md",
        "docs/running/kubernetes.md",
        "docs/running/nomad.md",
    }
