"""Write configuration.md from the options of the daemon and the variables of the command."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from rqdisco.cli.commands import cli
from rqdisco.service.options import DaemonOptions

PAGE = Path(__file__).with_name("configuration.md")

# The options in the order of the page; each is in one section.
SECTIONS = {
    "Listening and access": (
        "On an address that other machines can reach, the daemon starts only with `--tokens`, with\n"
        "client certificates, or with `--open` on a network that you trust: [security.md](security.md).\n"
        "`--host` is for a proxy on this machine that passes on the `Host` header:\n"
        "[security.md](security.md#names-of-this-machine). `--trusted-proxy` is for proxies that name their\n"
        "client in a header: [operations.md](operations.md#proxies-that-name-the-client-in-a-header).",
        "listen host trusted-proxy tokens open operator-socket metrics-listen",
    ),
    "State": ("See [operations.md](operations.md).", "data-dir disk-reserve snapshot-every audit drain-timeout"),
    "Discovery IDs and nodes": (
        "See [rqlite.md](rqlite.md); [operations.md](operations.md#unused-ids) for `--expire-unused`.",
        "retry-window strict-addresses kv-create kv-visible-claims max-ids max-nodes expire-unused",
    ),
    "Limits": (
        "See [operations.md](operations.md#limits), and for `--idle-timeout`\n"
        "[operations.md](operations.md#idle-connections).",
        "max-body create-rate client-rate max-connections max-client-connections idle-timeout",
    ),
    "DNS": ("See [dns.md](dns.md).", "dns dns-zone dns-aliases dns-nameserver dns-rate dns-open"),
    "Peers": (
        "See [peers.md](peers.md).",
        "name peer peer-listen advertise peer-keys peer-ca peer-cert peer-key grant-ack",
    ),
    "etcd": (
        "With `--etcd` the daemon keeps no records itself; `--peer` and its like are then excluded.",
        "etcd etcd-prefix etcd-user etcd-password-file etcd-ca etcd-cert etcd-key wait-for-etcd dns-serve-stale",
    ),
    "Probes": ("See [operations.md](operations.md#probing).", "probe probe-allow probe-rate"),
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

_DEFAULT = re.compile(r"(.*?) ?\[default: (.*)\]", re.DOTALL)
_LITERAL = re.compile(r"(?<![\w`])(--[a-z][a-z-]+|\$?[A-Z]+_[A-Z_]+(?:/[\w.]+)?|\./[\w-]+|/readyz|/metrics)")

_INTRODUCTION = """\
# Configuration

<!-- Written by `make configuration`; edit docs/write_configuration.py or the help texts. -->

`twistd rqdisco --help` prints these options. Each can also be set in the environment. The command
line takes precedence over the environment, and an empty variable is ignored. With an invalid option
the daemon exits with status 64 and a line that names the option.

A *repeatable* option takes one value each time it is given; its variable takes several values,
separated by spaces. A *flag* takes no value; its variable is `yes` or `no`, and the command line
cannot unset a `yes`.

Durations are in seconds unless the text says otherwise. Endpoints are
[Twisted endpoint strings](https://docs.twisted.org/en/stable/core/howto/endpoints.html):
`tcp:PORT`, `unix:PATH`, [`systemd:`](systemd.md), [TLS](security.md#tls), and
[`haproxy:tcp:PORT`](operations.md#behind-a-load-balancer) behind a proxy. Their `backlog` is the
number of connections that may wait to be accepted; Twisted's default of 50 is too small where
hundreds of nodes start at once.
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


class Option(NamedTuple):
    """An option of the daemon: its name, its default, its help text, and what marks it."""

    name: str
    default: str
    text: str
    mark: str = ""

    @property
    def variable(self) -> str:
        return "RQDISCO_" + self.name.upper().replace("-", "_")


def daemon_options() -> Iterator[Option]:
    """Every option that DaemonOptions adds to Twisted's own."""
    for name, _, default, text in DaemonOptions.optParameters:
        described, shown = split_default(str(text))
        yield Option(str(name), f"`{default}`" if default is not None else shown, described)
    for name, _, text in DaemonOptions.optFlags:
        yield Option(str(name), "off", str(text), "flag")
    for attribute, method in vars(DaemonOptions).items():
        if attribute.startswith("opt_"):
            text, default = split_default(" ".join(str(inspect.getdoc(method)).split()))
            name = attribute.removeprefix("opt_").replace("_", "-")
            yield Option(name, f"`{default}`" if ":" in default else default, text, "repeatable")


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


def split_default(text: str) -> tuple[str, str]:
    """Split `Text. [default: x]`; without that suffix the default is "none"."""
    match = _DEFAULT.fullmatch(text)
    return (match[1], match[2]) if match else (text, "none")


def page() -> str:
    """Return the page. Raises KeyError if an option is in no section, or a section names none."""
    options = {option.name: option for option in daemon_options()}
    parts = [_INTRODUCTION]
    for title, (see, names) in SECTIONS.items():
        rows = [_row(options.pop(name)) for name in names.split()]
        head = "| option, variable | default | |\n|---|---|---|\n"
        parts.append(f"## {title}\n\n{see}\n\n{head}{''.join(rows)}")
    if options:
        raise KeyError(f"in no section of {Path(__file__).name}: {', '.join(options)}")
    variables = "".join(f"| `{name}` | {_cell(text)} |\n" for name, text in command_variables().items())
    parts.append(f"{_COMMAND}\n| variable | |\n|---|---|\n{variables}")
    return "\n".join([*parts, _SYSTEMD])


def _row(option: Option) -> str:
    mark = "" if option.mark in option.text.lower() else f" *{option.mark.capitalize()}.*"
    text = _cell(option.text) + mark
    return f"| `--{option.name}`<br>`{option.variable}` | {_cell(option.default)} | {text} |\n"


def _cell(text: str) -> str:
    return _LITERAL.sub(r"`\1`", text).replace("|", r"\|")


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE, file=sys.stderr)
