"""The output for typing mistakes, for help, and for commands that need no service."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import click
import pytest

from rqdisco import __version__
from rqdisco.cli import main
from rqdisco.cli.commands import Invocation, cli, parse_arguments
from tests.support.command import Shell

ID = "9af5306d-5842-851c-a00f-72fe57b0eb16"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "Usage: rqdisco"),
        ("nonsense", "No such command 'nonsense'"),
        ("create more", "unexpected extra argument"),
        ("register", "Missing argument 'ID'"),
        ("register ID", "Missing argument 'ADDR'"),
        ("register '' a:1", "'' is not a discovery ID"),
        ("register a/b a:1", "'a/b' is not a discovery ID"),
        ("register .. a:1", "'..' is not a discovery ID"),
        ("register ID a:1 --wait soon", "'soon' is not a valid float"),
        ("register ID a:1 --wait -1", "not in the range"),
        ("register ID \udcff", "must be UTF-8"),
        ("nodes ID --format yaml", "'yaml' is not one of 'lines', 'join', 'json', 'peers.json', 'flags'"),
        ("nodes ID --non-voter n1", "--non-voter requires --format peers.json"),
        ("nodes ID --format peers.json --non-voter ''", "Invalid value for '--non-voter': must not be empty"),
        ("leader", "Usage: rqdisco leader"),
        ("leader set ID", "Missing option '--id'"),
        ("leader set ID --id 1 --api-addr h:1 --addr h:2", "must start with http:// or https://"),
        ("leader set ID --id 1 --api-addr http://h:1 --addr http://h:2", "must be HOST:PORT"),
        ("leader set ID --cas -1", "not in the range"),
        ("watch ID --interval 0", "not in the range"),
        ("flags ID --mode dns", "Missing option '--rqlite'"),
        ("flags ID --mode etcd-kv --rqlite 8", "'etcd-kv' is not one of"),
        ("flags ID --mode legacy --rqlite 8", "legacy mode is for rqlite 3.12 to 6.10"),
        ("import no-such-file", "'no-such-file' does not exist"),
        ("status status", "'status' is a reserved name: the service uses it for its own paths, so no ID has it"),
        ("flags Peers --mode consul-kv --rqlite 8", "'Peers' is a reserved name"),
        ("stauts", "No such command 'stauts'. Did you mean 'status'?"),
        ("completion tcsh", "'tcsh' is not one of"),
        ("--url", "requires an argument"),
        ("create --url ''", "Invalid value for '--url': must not be empty"),
        ("--url '' create", "Invalid value for '--url' (env var: 'RQDISCO_URL'): must not be empty"),
        ("create --wait ''", "'' is not a valid float"),
        ("register ID ''", "Invalid value for 'ADDR': must not be empty"),
        ("register ID a:1 --raft-addr ''", "Invalid value for '--raft-addr': must not be empty"),
        ("register ID a:1 --node-id ''", "Invalid value for '--node-id': must not be empty"),
        ("nodes ID --exclude-self ''", "Invalid value for '--exclude-self': must not be empty"),
        ("nodes ID --format ''", "'' is not one of"),
        ("remove ID ''", "Invalid value for 'ADDR': must not be empty"),
        ("prune ID --down-for ''", "'' is not a duration"),
        ("watch ID --interval ''", "'' is not a valid float"),
        ("leader set ID --id '' --api-addr http://h:1 --addr h:2", "Invalid value for '--id': must not be empty"),
        ("leader set ID --id 1 --api-addr '' --addr h:2", "Invalid value for '--api-addr': must not be empty"),
        ("leader set ID --id 1 --api-addr http://h:1 --addr ''", "Invalid value for '--addr': must not be empty"),
        ("leader clear ID --yes --cas ''", "'' is not a valid int"),
        ("create --name ''", "'' cannot be the name of an ID: use up to 64 letters, digits, dots, '-' and '_'"),
        ("create --name Status", "'Status' cannot be the name of an ID: reserved for the service's own paths"),
        (
            "create --name 9af5306d-5842-851c-a00f-72fe57b0eb16",
            "cannot be the name of an ID: it has the form of the IDs that daemons make up",
        ),
        ("status ''", "'' is not a discovery ID"),
        ("flags ID --mode dns --rqlite ''", "not a version of rqlite"),
        ("flags ID --mode dns --rqlite 8 --dns-zone ''", "Invalid value for '--dns-zone': must not be empty"),
        ("flags ID --mode consul-kv --rqlite 8 --expect ''", "'' is not a valid int"),
        ("flags ID --mode consul-kv --rqlite 8 --url ''", "Invalid value for '--url': must not be empty"),
        ("flags ID --mode consul-kv --rqlite 8 --for ''", "'' is not one of"),
        ("export -o ''", "Invalid value for '-o' / '--output': must not be empty"),
        ("import ''", "Invalid value for 'FILE|DIR|-': must not be empty"),
        ("drain --to '' --yes", "Invalid value for '--to': must not be empty"),
        ("peers forget '' --yes", "Invalid value for 'NAME': must not be empty"),
        ("token new '' --file f", "Invalid value for 'NAME': must not be empty"),
        ("token new n --file ''", "Invalid value for '--file' (env var: 'RQDISCO_TOKENS'): must not be empty"),
        ("token new n --file f --id ''", "'' is not a discovery ID"),
        ("token new n --file f --scope ''", "'' is not one of"),
        ("token list --file ''", "Invalid value for '--file' (env var: 'RQDISCO_TOKENS'): must not be empty"),
        ("token revoke '' --file f", "Invalid value for 'NAME': must not be empty"),
    ],
)
def test_a_command_line_that_cannot_be_parsed_is_status_2_and_is_named(
    shell: Shell, capsys: pytest.CaptureFixture[str], line: str, words: str
) -> None:
    assert shell(*shlex.split(line)) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""
    assert shell.service.asked == 0


# Commands that ask no service.
WITHOUT_A_SERVICE = {"config", "restore", "serve", "systemd"}


def test_help_names_every_command_and_every_command_has_help(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell("--help") == 0
    text = capsys.readouterr().out
    for name, command in cli.commands.items():
        assert f"  {name} " in text
        assert shell(name, "-h") == 0
        assert ("--url" in capsys.readouterr().out) == (name not in WITHOUT_A_SERVICE)
        help_text = command.get_short_help_str(200)
        assert help_text
        assert not help_text.endswith("...")


def test_the_version_is_that_of_the_package(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell("--version") == 0
    assert capsys.readouterr().out == f"rqdisco {__version__}\n"


@pytest.mark.parametrize(
    ("environment", "line", "url"),
    [
        (None, "create", "http://127.0.0.1:4000"),
        ("http://e", "create", "http://e"),
        ("http://e", "--url http://before create", "http://before"),
        ("http://e", "create --url http://after", "http://after"),
        (None, "--url http://before create --url http://after", "http://after"),
        (None, "leader show ID --url http://after", "http://after"),
        (None, "leader --url http://between show ID", "http://between"),
    ],
)
def test_the_url_is_taken_before_and_after_the_command_and_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, environment: str | None, line: str, url: str
) -> None:
    if environment is not None:
        monkeypatch.setenv("RQDISCO_URL", environment)
    invocation = parse_arguments(line.split())
    assert isinstance(invocation, Invocation)
    assert invocation.url == url


@pytest.mark.parametrize("name", ["URL", "TOKEN", "CA", "CERT", "KEY"])
def test_an_empty_variable_is_a_mistake_and_no_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setenv(f"RQDISCO_{name}", "")
    with pytest.raises(SystemExit) as ended:
        main.main(["create"])
    assert ended.value.code == 2
    assert f"RQDISCO_{name} is empty: set it to " in capsys.readouterr().err


def test_an_empty_url_in_the_environment_does_not_matter_with_an_explicit_url_or_for_help(
    monkeypatch: pytest.MonkeyPatch, shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RQDISCO_URL", "")
    assert shell("create", "--url", "http://given") == 0
    assert shell("--url", "http://given", "create") == 0
    assert shell("create", "--help") == 0
    assert shell("flags", "x", "--rqlite", "8", "--mode", "consul-kv") == 2
    assert "RQDISCO_URL is empty" in capsys.readouterr().err


def test_an_empty_token_file_name_is_reported(
    monkeypatch: pytest.MonkeyPatch, shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RQDISCO_TOKENS", "")
    assert shell("token", "list") == 2
    assert "Missing option '--file' (env var: 'RQDISCO_TOKENS')" in capsys.readouterr().err


def test_an_invalid_url_is_refused_without_showing_the_password(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["create", "--url", "http://me:secret@:1"])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "invalid service URL" in error
    assert "secret" not in error


def test_flags_are_printed_on_stdout_and_explained_on_stderr(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell("flags", ID, "--rqlite", "8", "--mode", "dns-srv", "--dns-zone", "disco.example", "--expect", "5") == 0
    captured = capsys.readouterr()
    mode, config, expect = shlex.split(captured.out)
    assert (mode, expect) == ("-disco-mode=dns-srv", "-bootstrap-expect=5")
    assert json.loads(config.partition("=")[2])["name"] == f"{ID}.disco.example."
    assert all(line.startswith("rqdisco: ") for line in captured.err.splitlines())
    assert shell.service.asked == 0


def test_flags_use_the_given_service(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("flags", ID, "--rqlite", "8", "--mode", "consul-kv", "--for", "k8s", "--url", "https://disco:4000")
    assert shell(*arguments) == 0
    captured = capsys.readouterr()
    items = [json.loads(line.removeprefix("  - ")) for line in captured.out.splitlines()[1:]]
    assert items == ["-disco-mode=consul-kv", f"-disco-key={ID}", items[2]]
    assert json.loads(items[2].partition("=")[2]) == {"address": "disco:4000", "scheme": "https"}


def test_flags_of_a_read_replica_need_an_option(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    line = ("flags", ID, "--rqlite", "10", "--mode", "dns-srv", "--dns-zone", "z", "--replica")
    assert shell(*line) == 0
    assert shlex.split(capsys.readouterr().out)[2:] == ["-raft-non-voter"]
    assert shell(*line, "--expect", "3") == 2
    assert "a read replica takes no -bootstrap-expect" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_there_is_a_completion_script_for_every_shell(
    shell: Shell, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert shell("completion", name) == 0
    assert "_RQDISCO_COMPLETE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "word", "completed"),
    [
        ("bash", "1", "plain,show\n"),
        ("zsh", "1", "plain\nshow\nShow details of the nodes of ID.\n"),
        ("fish", "sh", "plain,show\tShow details of the nodes of ID.\n"),
    ],
)
def test_completion_returns_the_candidates_for_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, word: str, completed: str
) -> None:
    monkeypatch.setenv("_RQDISCO_COMPLETE", f"{name}_complete")
    monkeypatch.setenv("COMP_WORDS", "rqdisco sh")
    monkeypatch.setenv("COMP_CWORD", word)
    with pytest.raises(SystemExit) as ended:
        main.main([])
    assert (ended.value.code, capsys.readouterr().out) == (0, completed)


def test_completion_and_help_load_neither_twisted_nor_tables() -> None:
    code = "import sys, rqdisco.cli.main; print({'twisted', 'treq', 'rich'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout == "set()\n"


def test_an_answer_cut_short_by_ctrl_c_is_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def gives_up(*_: object, **__: object) -> None:
        raise click.Abort

    monkeypatch.setattr(cli, "main", gives_up)
    with pytest.raises(SystemExit) as ended:
        main.main(["create"])
    assert ended.value.code == 130


@pytest.mark.parametrize(("version", "mode"), [("5.12", "-disco-url="), ("10", "-disco-mode=consul-kv ")])
def test_flags_need_no_mode(shell: Shell, capsys: pytest.CaptureFixture[str], version: str, mode: str) -> None:
    assert shell("flags", "orders", "--rqlite", version, "--url", "http://disco:4000") == 0
    assert capsys.readouterr().out.startswith(mode)
    assert shell("flags", "orders", "--rqlite", "new") == 2


def test_choices_of_a_missing_argument_are_indented_and_not_escaped(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shell("completion") == 2
    error = capsys.readouterr().err
    assert "    bash" in error
    assert "\\t" not in error
