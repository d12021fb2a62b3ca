"""Write configuration.md from the options of the daemon and the variables of the command."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from rqdisco.cli.commands import cli
from rqdisco.service.option_table import TOPICS, Option

PAGE = Path(__file__).with_name("configuration.md")
EXAMPLE = Path(__file__).parents[1] / "deploy" / "rqdisco.toml"

# What the page says of each topic of rqdisco/service/option_table.py.
NOTES = {
    "Listening and access": (
        "On an address that other machines can reach, the daemon starts only with `--tokens`, with\n"
        "client certificates, or with `--open` on a network that you trust: [security.md](security.md).\n"
        "`--host` is for a proxy on this machine that passes on the `Host` header:\n"
        "[security.md](security.md#names-of-this-machine). `--trusted-proxy` is for proxies that name their\n"
        "client in a header: [operations.md](operations.md#proxies-that-name-the-client-in-a-header)."
    ),
    "State": (
        "See [operations.md](operations.md). `rqdisco serve` has another default for `--data-dir`:\n"
        "[operations.md](operations.md#rqdisco-serve)."
    ),
    "Configuration and log": "See [below](#the-configuration-file), and [operations.md](operations.md#the-log).",
    "Discovery IDs and nodes": (
        "See [rqlite.md](rqlite.md); [operations.md](operations.md#unused-ids) for `--expire-unused`."
    ),
    "Limits": (
        "See [operations.md](operations.md#limits), and for `--idle-timeout`\n"
        "[operations.md](operations.md#idle-connections)."
    ),
    "DNS": "See [dns.md](dns.md).",
    "Peers": "See [peers.md](peers.md).",
    "etcd": "With `--etcd` the daemon keeps no records itself; `--peer` and its like are then excluded.",
    "Probes": "See [operations.md](operations.md#probing).",
}

# What the command reads by itself, in rqdisco/cli/main.py.
COMMAND_VARIABLES = {
    "RQDISCO_TOKEN": "The token sent to the service. There is no option: other users can read command lines.",
    "RQDISCO_FROM_TOKEN": "The token that `rqdisco migrate` sends to the old daemons.",
    "RQDISCO_TO_TOKEN": "The token that `rqdisco migrate` sends to the new daemons.",
    "RQDISCO_CA": "A file of the certificate authorities that the command trusts. [default: the system's]",
    "RQDISCO_CERT": "A file with the command's own TLS certificate. [default: none]",
    "RQDISCO_KEY": "A file with the key of that certificate. [default: the file of the certificate]",
}

_LITERAL = re.compile(r"(?<![\w`])(--[a-z][a-z-]+|\$?[A-Z]+_[A-Z_]+(?:/[\w.]+)?|\./[\w-]+|/readyz|/metrics)")

_INTRODUCTION = """\
# Configuration

<!-- Written by `make configuration`; edit docs/write_configuration.py or the help texts. -->

`rqdisco serve --help` and `twistd rqdisco --help` print these options. Each can also be set in the
environment and in a [configuration file](#the-configuration-file). The command line takes
precedence over the environment, and that over the file; an empty variable is ignored. With an
invalid option the daemon exits with status 64 and a line that names the option and where its value
is from. It warns of variables that begin with `RQDISCO_` and are none of those on this page.
`rqdisco config show` prints the value of each option and its source.

A *repeatable* option takes one value each time it is given; its variable takes several values,
separated by spaces. A *flag* takes no value; its variable is `yes` or `no`, which also replaces
that of the file. The command line cannot unset a flag.

Durations are in seconds unless the text says otherwise. Endpoints are
[Twisted endpoint strings](https://docs.twisted.org/en/stable/core/howto/endpoints.html):
`tcp:PORT`, `unix:PATH`, [`systemd:`](systemd.md), [TLS](security.md#tls), and
[`haproxy:tcp:PORT`](operations.md#behind-a-load-balancer) behind a proxy. Their `backlog` is the
number of connections that may wait to be accepted; Twisted's default of 50 is too small where
hundreds of nodes start at once.
"""

_FILE = """\
## The configuration file

`--config FILE` names a file in [TOML](https://toml.io). Its keys are the names of the options
without the hyphens in front: `max-ids = 1000`. Underscores count as hyphens, so `max_ids` is the
same key. Text stands in quotation marks, numbers do not; a flag is `true` or `false`; a repeatable
option is a list. There are no tables. Relative paths start at the working directory of the daemon,
as on the command line, so write whole ones.

A value of the command line or the environment replaces that of the file; lists are not joined. An
error names the file, the line and the key, and for an unknown key the nearest valid one. The
daemon reads the file at its start only.

```sh
rqdisco config check /etc/rqdisco/rqdisco.toml   # exit status 1 if a daemon would refuse it
rqdisco config show /etc/rqdisco/rqdisco.toml    # every value, and its source
```

`deploy/rqdisco.toml`:
"""

_COMMAND = """\
## The `rqdisco` command

The command reads these variables. One that is set but empty is an error (exit status 2). See
[command.md](command.md).
"""

_SYSTEMD = """\
## Variables set by systemd

| variable | use |
|---|---|
| `STATE_DIRECTORY` | the default of `--data-dir` |
| `RUNTIME_DIRECTORY` | the directory of the default operator socket, `operator.sock` |
| `NOTIFY_SOCKET` | where readiness and stopping are reported (sd_notify) |
| `WATCHDOG_USEC`, `WATCHDOG_PID` | how often the daemon reports that it is alive |
| `LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES` | the sockets for `systemd:` endpoints |
"""


def command_variables() -> dict[str, str]:
    """The variables of the command and their descriptions."""
    found: dict[str, str] = {}
    commands: list[click.Command] = [cli]
    for command in commands:
        commands.extend(command.commands.values() if isinstance(command, click.Group) else ())
        for parameter in command.params:
            if parameter.envvar:
                text, default = str(getattr(parameter, "help", "")), parameter.default
                shown = f" [default: {default}]" if isinstance(default, str) else ""
                found[str(parameter.envvar)] = f"`{max(parameter.opts, key=len)}`: {text}{shown}"
    return {**found, **COMMAND_VARIABLES}


def page() -> str:
    """Return the page. Raises KeyError if a topic has no note."""
    parts = [_INTRODUCTION]
    for topic in TOPICS:
        rows = map(_row, topic.options)
        head = "| option, variable | default | |\n|---|---|---|\n"
        parts.append(f"## {topic.title}\n\n{NOTES[topic.title]}\n\n{head}{''.join(rows)}")
    parts.append(_file_section())
    variables = "".join(f"| `{name}` | {_cell(text)} |\n" for name, text in command_variables().items())
    parts.append(f"{_COMMAND}\n| variable | |\n|---|---|\n{variables}")
    return "\n".join([*parts, _SYSTEMD])


def _file_section() -> str:
    example = EXAMPLE.read_text()
    return f"{_FILE}\n```toml\n{example}```\n"


def _row(option: Option) -> str:
    mark = {"list": " *Repeatable.*", "flag": " *Flag.*"}.get(option.kind, "")
    default = option.shown_default if option.default is None else f"`{option.default}`"
    return f"| `--{option.name}`<br>`{option.variable}` | {_cell(default)} | {_cell(option.text)}{mark} |\n"


def _cell(text: str) -> str:
    return _LITERAL.sub(r"`\1`", text).replace("|", r"\|")


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE, file=sys.stderr)
