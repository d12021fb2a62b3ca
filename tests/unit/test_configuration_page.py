"""docs/configuration.md agrees with the options of the daemon and the variables of the command."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from rqdisco.cli.main import main
from rqdisco.service.option_table import Option, Topic
from rqdisco.service.options import DaemonOptions

DOCS = Path(__file__).parents[2] / "docs"
WRITER = runpy.run_path(str(DOCS / "write_configuration.py"))


def test_the_page_is_what_make_configuration_writes() -> None:
    assert (DOCS / "configuration.md").read_text() == WRITER["page"]()


def test_every_option_of_the_help_is_on_the_page() -> None:
    page = WRITER["page"]()
    ours = DaemonOptions({})
    shown = {f"--{name.rstrip('=')}" for name in ours.longOpt} - {"--help", "--version"}
    assert {"--listen", "--open", "--peer-listen", "--probe-rate"} <= shown
    assert [name for name in sorted(shown) if f"| `{name}`<br>`RQDISCO_" not in page] == []


def test_a_topic_without_a_note_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WRITER["page"].__globals__, "TOPICS", [Topic("New", (Option("new-option", "It is new."),))])
    with pytest.raises(KeyError, match="New"):
        WRITER["page"]()


def test_the_example_of_a_configuration_file_is_valid() -> None:
    options = DaemonOptions({})
    options.parseOptions(["--config", str(DOCS.parent / "deploy" / "rqdisco.toml")])
    assert options.config.tokens == Path("/etc/rqdisco/tokens")


MIGRATE = ["migrate", "--from", "http://127.0.0.1:1", "--to", "http://127.0.0.1:2"]


@pytest.mark.parametrize("variable", sorted(WRITER["COMMAND_VARIABLES"]))
def test_the_command_reads_each_variable(
    variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, "")
    with pytest.raises(SystemExit) as ended:
        main(MIGRATE if variable in ("RQDISCO_FROM_TOKEN", "RQDISCO_TO_TOKEN") else ["create"])
    assert ended.value.code == 2
    assert f"{variable} is empty" in capsys.readouterr().err
