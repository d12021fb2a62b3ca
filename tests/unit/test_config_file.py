"""The configuration file: what it may say, its errors, and what takes precedence over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rqdisco.service.config import Config
from rqdisco.service.config_file import BadConfigFile, parse_config
from rqdisco.service.option_table import OPTIONS
from rqdisco.service.options import DaemonOptions
from rqdisco.service.settings import resolve


def start(file: Path, *arguments: str, **environment: str) -> Config:
    options = DaemonOptions(environment)
    options.parseOptions([f"--config={file}", *arguments])
    return options.config


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rqdisco.toml"


def test_a_file_sets_options_of_every_kind_by_their_names(file: Path) -> None:
    file.write_text(
        'listen = ["tcp:1", "tcp:2"]\n"data-dir" = "/d"\nmax_ids = 7\nretry-window = 0.5\nopen = true\n'
        'kv-create = false\ndisk-reserve = "64M"\nhost = "a.example"\n'
    )
    config = start(file)
    assert (config.listen, config.data_dir, config.limits.max_ids) == (("tcp:1", "tcp:2"), Path("/d"), 7)
    assert (config.limits.retry_window_ms, config.is_open, config.limits.create_named) == (500, True, False)
    assert (config.disk_reserve, config.hosts) == (64 << 20, ("a.example",))


def test_every_option_can_be_in_the_file() -> None:
    values = {"text": '"x"', "number": "1", "flag": "true", "list": '["x"]'}
    names = OPTIONS.keys() - {"config"}
    settings = parse_config("".join(f"{name} = {values[OPTIONS[name].kind]}\n" for name in names), "f")
    assert settings.keys() == names


def test_the_command_line_takes_precedence_over_the_environment_and_that_over_the_file(file: Path) -> None:
    file.write_text('max-nodes = 1\nmax-ids = 1\nmax-body = 100\nlisten = ["tcp:1"]\nopen = true\n')
    config = start(file, "--max-nodes=3", RQDISCO_MAX_NODES="2", RQDISCO_MAX_IDS="2", RQDISCO_OPEN="no")
    assert (config.limits.max_nodes, config.limits.max_ids, config.max_body) == (3, 2, 100)
    assert not config.is_open
    assert start(file, "--listen=tcp:9").listen == ("tcp:9",)


def test_the_environment_can_name_the_file(file: Path) -> None:
    file.write_text("max-nodes = 4\n")
    options = DaemonOptions({"RQDISCO_CONFIG": str(file)})
    options.parseOptions([])
    assert options.config.limits.max_nodes == 4


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("max-idz = 1\n", "f line 1: max-idz is not an option; did you mean max-ids?"),
        ("# first\n\nmax_idz = 1\n", "f line 3: max_idz is not an option; did you mean max-ids?"),
        ("qqq = 1\n", "f line 1: qqq is not an option"),
        ("[peers]\nname = 'a'\n", "f line 1: peers is a table; options are not grouped: write NAME = VALUE"),
        ("\n[dns]\nzone = 'a'\n", 'f line 2: dns: expected a list of texts, such as ["a", "b"], not a table'),
        ("open = 'yes'\n", "f line 1: open: expected true or false, not text"),
        ("data-dir = 5\n", "f line 1: data-dir: expected text in quotation marks, not a number"),
        ("max-ids = true\n", "f line 1: max-ids: expected a number, not true or false"),
        (
            "listen = [4000]\n",
            'f line 1: listen: expected a list of texts, such as ["a", "b"], not a list with other elements',
        ),
        ("name = 2026-01-01\n", "f line 1: name: expected text in quotation marks, not a date or time"),
        ("tokens = ''\n", "f line 1: tokens: empty; leave it out for the default"),
        ("peer = []\n", "f line 1: peer: empty; leave it out for the default"),
        ("config = 'g'\n", "f line 1: config: a configuration file cannot name another one"),
        ("max-ids = 1\nmax_ids = 2\n", "f line 2: max_ids: given twice, with hyphens and with underscores"),
        ('name = "a\\u0000b"\n', "f line 1: name: contains a NUL character"),
        ('peer = ["a", "\\u0000"]\n', "f line 1: peer: contains a NUL character"),
        ('"\\u001b[31m" = 1\n', "f: '\\x1b[31m' is not an option"),
        ("max-ids = " + 5000 * "9", "f: a number has too many digits"),
        ("max-ids = 0x" + 5000 * "f", "f line 1: max-ids: not between -1e+12 and 1e+12"),
        ("name = " + 9000 * "[", "f: lists or tables are nested too deeply"),
        ("max-ids 1\n", "f: Expected '=' after a key in a key/value pair (at line 1, column 9)"),
    ],
)
def test_an_error_names_the_file_the_line_the_key_and_what_is_expected(text: str, problem: str) -> None:
    with pytest.raises(BadConfigFile) as refused:
        parse_config(text, "f")
    assert str(refused.value) == problem


def test_all_problems_of_a_file_are_found_at_once() -> None:
    with pytest.raises(BadConfigFile) as refused:
        parse_config("opne = true\nmax-ids = []\n", "f")
    assert refused.value.problems == (
        "f line 1: opne is not an option; did you mean open?",
        "f line 2: max-ids: expected a number, not a list",
    )


@pytest.mark.parametrize(
    ("text", "environment", "error"),
    [
        ("\nmax-ids = -1\n", {}, "max-ids ({file} line 2): -1 is not between 0 and 1e+12"),
        ("", {"RQDISCO_MAX_BODY": "1k"}, "max-body (RQDISCO_MAX_BODY): '1k' is not a number"),
        ("probe = 15", {}, "probe ({file} line 1): requires --probe-allow"),
        ("max-idz = 1", {}, "{file} line 1: max-idz is not an option; did you mean max-ids?"),
        ("etcd = 'http://u:sec/r@t@a:1'", {}, "etcd ({file} line 1): 'http://u:***@a:1' is not http://HOST:PORT"),
        ("etcd = 'http://u:secret@a'", {}, "etcd ({file} line 1): 'http://u:***@a' is not http://HOST:PORT"),
        (None, {}, "{file}: No such file or directory"),
        (b"\xff", {}, "{file}: not UTF-8"),
        (b"\xef\xbb\xbf\r\nmax-idz = 1", {}, "{file} line 2: max-idz is not an option; did you mean max-ids?"),
        ("#" * (1 << 20) + "\n", {}, "{file}: over 1,048,576 bytes, which is no configuration file"),
    ],
)
def test_a_daemon_refuses_a_bad_value_and_says_where_it_is_from(
    file: Path,
    text: str | bytes | None,
    environment: dict[str, str],
    error: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SystemExit) as ended:
        start(file, **environment)
    assert ended.value.code == 64
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"rqdisco: {error.format(file=file)}")


def test_each_value_has_its_source() -> None:
    file = parse_config("max-ids = 1\nmax-nodes = 1", "f")
    settings = resolve({"max-ids": "2"}, {"RQDISCO_MAX_BODY": "100"}, file)
    sources = {name: settings[name].source for name in ("max-ids", "max-body", "max-nodes", "open")}
    assert sources == {
        "max-ids": "command line",
        "max-body": "RQDISCO_MAX_BODY",
        "max-nodes": "f line 2",
        "open": None,
    }
