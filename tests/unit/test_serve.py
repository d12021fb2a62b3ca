"""`rqdisco serve`: its command line, its default directory, and what it prints once it listens."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest

from rqdisco.cli.commands import Invocation, parse_arguments
from rqdisco.cli.daemon import default_directory, print_banner
from rqdisco.cli.main import main
from rqdisco.cli.serve_command import ServeArguments
from rqdisco.service.banner import banner
from rqdisco.service.config import Config
from rqdisco.service.option_table import OPTIONS, TOPICS
from rqdisco.service.options import DaemonOptions


def config(*arguments: str, **environment: str) -> Config:
    options = DaemonOptions(environment)
    options.parseOptions(list(arguments))
    return options.config


def arguments_of(*command_line: str) -> tuple[str, ...]:
    invocation = parse_arguments(["serve", *command_line])
    assert isinstance(invocation, Invocation)
    assert isinstance(invocation.command, ServeArguments)
    return invocation.command.arguments


def printed(capsys: pytest.CaptureFixture[str], *command_line: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(command_line)
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_every_option_of_the_daemon_is_one_of_serve_and_means_the_same() -> None:
    values = {"number": "1", "text": "x", "list": "y"}
    for name, option in OPTIONS.items():
        written = f"--{name}" if option.kind == "flag" else f"--{name}={values[option.kind]}"
        assert arguments_of(written) == (written,)


def test_a_repeatable_option_may_be_given_several_times_and_a_value_may_be_empty() -> None:
    assert arguments_of("--listen", "tcp:1", "--listen=tcp:2", "--tokens=") == (
        "--listen=tcp:1",
        "--listen=tcp:2",
        "--tokens=",
    )


def test_the_help_groups_the_options_by_topic(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "serve", "--help").splitlines()
    for topic in TOPICS:
        start = lines.index(f"{topic.title}:")
        end = lines.index("", start)
        shown = {line.split()[0] for line in lines[start:end] if line.startswith("  --")}
        assert shown == {f"--{option.name}" for option in topic.options}


@pytest.mark.parametrize("wrong", [["--max-idz=1"], ["stray"], ["--open=yes"]])
def test_a_usage_error_has_the_exit_status_of_the_daemon(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", *wrong])
    assert ended.value.code == 64
    assert "Error: " in capsys.readouterr().err


def test_the_versions_of_serve_and_twistd_are_those_of_rqdisco(capsys: pytest.CaptureFixture[str]) -> None:
    version = printed(capsys, "--version").split()[1]
    assert printed(capsys, "serve", "--version") == f"rqdisco {version}\n"
    with pytest.raises(SystemExit) as ended:
        DaemonOptions({}).parseOptions(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"rqdisco {version} (Twisted ")


def test_a_user_has_a_state_directory_of_his_own_and_root_that_of_the_system() -> None:
    assert default_directory({"HOME": "/home/ann"}, is_root=False) == "/home/ann/.local/share/rqdisco"
    assert default_directory({"HOME": "/h", "XDG_DATA_HOME": "/data"}, is_root=False) == "/data/rqdisco"
    # The specification of these variables asks to ignore relative paths.
    assert default_directory({"HOME": "/h", "XDG_DATA_HOME": "data"}, is_root=False) == "/h/.local/share/rqdisco"
    assert default_directory({"HOME": "/root"}, is_root=True) == "/var/lib/rqdisco"


def test_each_address_is_printed_as_a_url_to_open_with_the_data_directory() -> None:
    assert banner(config("--data-dir=/d"), {"endpoints": ["127.0.0.1:4000"]}) == [
        "Listening on http://127.0.0.1:4000 (open this in a browser)",
        "Data directory: /d",
    ]


def test_all_kinds_of_listeners_are_printed() -> None:
    endpoints = ("tcp:0", "tls:tcp6:0:privateKey=/k", "unix:/u", "haproxy:tcp:4001")
    given = config("--open", *(f"--listen={each}" for each in endpoints), "--etcd=http://e:2379")
    addresses = {
        "endpoints": ["0.0.0.0:4000", "[::]:4443", "unix:/u", "0.0.0.0:4001"],
        "operator": ["unix:/o"],
        "metrics": ["127.0.0.1:1", "127.0.0.1:2"],
        "dns": ["127.0.0.1:53"],
        "peers": ["10.0.0.1:4002"],
    }
    assert banner(given, addresses) == [
        "Listening on http://127.0.0.1:4000 (open this in a browser) and on every other address of this machine",
        "Listening on https://[::1]:4443 (open this in a browser) and on every other address of this machine",
        "Listening on unix:/u",
        "Listening on 0.0.0.0:4001 (for a proxy)",
        "Operator socket: unix:/o",
        "Metrics: 127.0.0.1:1, 127.0.0.1:2",
        "DNS: 127.0.0.1:53",
        "Peers: 10.0.0.1:4002",
        "Records: etcd, http://e:2379",
    ]


def test_a_daemon_runs_on_though_nobody_reads_where_it_listens() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    print_banner(config(), {"endpoints": ["127.0.0.1:4000"]}, stream)
    print_banner(config(), {"endpoints": ["127.0.0.1:4000"]}, None)
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_serve_needs_no_url_of_a_service() -> None:
    with pytest.raises(click.UsageError, match="No such option '--url'"):
        parse_arguments(["serve", "--url=http://127.0.0.1:1"])


def test_the_default_directory_gives_way_to_the_option_and_to_systemd(tmp_path: Path) -> None:
    class Options(DaemonOptions):
        default_directory = "/home/ann/.local/share/rqdisco"

    for arguments, environment, directory in (
        ([], {}, "/home/ann/.local/share/rqdisco"),
        ([], {"STATE_DIRECTORY": "/var/lib/x"}, "/var/lib/x"),
        (["--data-dir=/d"], {"STATE_DIRECTORY": "/var/lib/x"}, "/d"),
    ):
        options = Options(environment)
        options.parseOptions(list(arguments))
        assert options.config.data_dir == Path(directory)
