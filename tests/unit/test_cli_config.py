"""`rqdisco config check` and `config show`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rqdisco.cli.main import main
from rqdisco.service.config_file import parse_config
from rqdisco.service.option_table import OPTIONS

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(name="config")
def run_config(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run `rqdisco config` with the content of a file and variables; return status, stdout and stderr."""

    def run(command: str, content: str | None = None, *options: str, **environment: str) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        if content is not None:
            Path("f.toml").write_text(content)
        with pytest.raises(SystemExit) as ended:
            main(["config", command, *options, *([] if content is None else ["f.toml"])])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def test_a_valid_file_is_said_to_be(config: Run) -> None:
    assert config("check", 'listen = ["tcp:1", "systemd:name=x"]\nopen = true\n') == (0, "f.toml: valid\n", "")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("max-idz = 1\nopen = 1\n", "f.toml line 1: max-idz is not an option; did you mean max-ids?"),
        ("max-idz = 1\nopen = 1\n", "f.toml line 2: open: expected true or false, not a number"),
        ("\nmax-ids = -1\n", "max-ids (f.toml line 2): -1 is not between 0 and 1e+12"),
        ('listen = ["tcp:1"]\n', "listen (f.toml line 1): tcp:1: other machines can connect and no token is required"),
        (
            'listen = ["127.0.0.1:1"]\n',
            "127.0.0.1:1: Unknown endpoint type: '127.0.0.1' (write tcp:1:interface=127.0.0.1)",
        ),
        ('listen = ["tcp:port"]\n', "listen (f.toml line 1): tcp:port: invalid literal for int() with base 10: 'port'"),
    ],
)
def test_a_file_that_a_daemon_would_refuse_is_1_and_its_problems_are_printed(
    config: Run, content: str, problem: str
) -> None:
    status, out, err = config("check", content)
    assert (status, out) == (1, "")
    assert problem in err


NO_NUMBER = "invalid literal for int() with base 10: {} (it is an endpoint, such as tcp:4000:interface=127.0.0.1)"


@pytest.mark.parametrize("access", ["open = true", 'tokens = "/t"'])
def test_endpoints_are_checked_whoever_may_connect(config: Run, access: str) -> None:
    content = f'listen = ["tcp:a", "haproxy:tcp:b", "tls:1"]\nmetrics-listen = ["tcp:c"]\n{access}\n'
    status, out, err = config("check", content)
    problems = err.splitlines()
    assert (status, out, len(problems)) == (1, "", 4)
    assert problems[0] == f"Error: listen (f.toml line 1): tcp:a: {NO_NUMBER.format(repr('a'))}"
    assert problems[1] == f"listen (f.toml line 1): haproxy:tcp:b: {NO_NUMBER.format(repr('b'))}"
    assert problems[2].startswith("listen (f.toml line 1): tls:1: privateKey=FILE is missing")
    assert problems[3] == f"metrics-listen (f.toml line 2): tcp:c: {NO_NUMBER.format(repr('c'))}"


def test_the_endpoint_for_peers_is_checked_too(config: Run) -> None:
    content = 'peer-listen = ["tcp:d"]\nadvertise = "http://a:1"\npeer-keys = "/k"\n'
    status, _, err = config("check", content)
    assert (status, err) == (1, f"Error: peer-listen (f.toml line 1): tcp:d: {NO_NUMBER.format(repr('d'))}\n")


def test_a_missing_file_is_1(config: Run) -> None:
    assert config("check", None, "absent.toml") == (1, "", "Error: absent.toml: No such file or directory\n")


def test_every_option_is_shown_with_its_source(config: Run) -> None:
    status, out, err = config("show", 'max-ids = 7\nopen = true\npeer = ["a", "b"]', RQDISCO_MAX_BODY="0100")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert "max-ids = 7  # f.toml line 1" in lines
    assert "open = true  # f.toml line 2" in lines
    assert 'peer = ["a", "b"]  # f.toml line 3' in lines
    assert "max-body = 100  # RQDISCO_MAX_BODY" in lines
    assert "max-nodes = 1000  # default" in lines
    assert "# data-dir: $STATE_DIRECTORY, else ./rqdisco-data" in lines
    assert all(f"\n{name} = " in out or f"\n# {name}: " in out for name in OPTIONS)


def test_what_is_shown_is_a_configuration_file_itself(config: Run) -> None:
    _, out, _ = config("show")
    shown = parse_config(out, "shown")
    assert shown["listen"].value == ("tcp:4000:interface=127.0.0.1:backlog=1000",)
    assert "data-dir" not in shown


def test_the_file_of_the_environment_is_shown_without_an_argument(config: Run, tmp_path: Path) -> None:
    (tmp_path / "e.toml").write_text("max-ids = 5\n")
    assert f"max-ids = 5  # {tmp_path}/e.toml line 1" in config("show", RQDISCO_CONFIG=f"{tmp_path}/e.toml")[1]


def test_a_program_reads_the_same_as_json(config: Run) -> None:
    shown = json.loads(config("show", "max-ids = 7", "--format=json")[1])
    assert shown["max-ids"] == {"value": "7", "source": "f.toml line 1"}
    assert shown["max-nodes"] == {"value": "1000", "source": "default"}
    assert shown["tokens"] == {"value": None, "source": "default"}
    assert shown.keys() == OPTIONS.keys()


@pytest.mark.parametrize("password", ["secret", "se/cret", "s@secret", "secret/@"])
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_password_in_a_url_is_not_shown(config: Run, form: str, password: str) -> None:
    _, out, err = config(
        "show", f'etcd = ["http://user:{password}@e:1"]\nadvertise = "http://:{password}@a"', f"--format={form}"
    )
    assert "cret" not in out + err
    assert "http://user:***@e:1" in out
