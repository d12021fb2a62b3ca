"""The definition of `rqdisco serve`, from the table of the daemon's options."""

from __future__ import annotations

from typing import Any, NamedTuple

import click

from rqdisco import __version__
from rqdisco.cli.command_classes import LocalCommand
from rqdisco.cli.options import example

USAGE_STATUS = 64
_METAVARS = {
    "URL": ("advertise", "peer", "etcd"),
    "ENDPOINT": ("listen", "metrics-listen", "peer-listen"),
    "FILE": (
        *("tokens", "config", "audit", "peer-keys", "peer-ca", "peer-cert", "peer-key"),
        *("etcd-password-file", "etcd-ca", "etcd-cert", "etcd-key"),
    ),
    "DIR": ("data-dir",),
    "PATH": ("operator-socket",),
    "CIDR": ("trusted-proxy", "probe-allow"),
    "IP:PORT": ("dns",),
    "SIZE": ("disk-reserve",),
    "text|json": ("log-format",),
    "LEVEL": ("log-level",),
    "yes|no": ("kv-create",),
    "if-up|required": ("grant-ack",),
}
_BY_OPTION = {name: metavar for metavar, names in _METAVARS.items() for name in names}
_DIRECTORY = "[default: $STATE_DIRECTORY, else ~/.local/share/rqdisco, for root /var/lib/rqdisco]"


class ServeArguments(NamedTuple):
    """The command line of the daemon to run."""

    arguments: tuple[str, ...]


class _UsageError(click.UsageError):
    """A usage error of the daemon, with its exit status."""

    exit_code = USAGE_STATUS


class ServeCommand(LocalCommand):
    """A command with the options of the daemon; its help groups them by topic."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        from rqdisco.service.option_table import OPTIONS

        return [
            *(_to_click(option.name, option.kind, option.help) for option in OPTIONS.values()),
            *super().get_params(ctx),
        ]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise _UsageError(error.format_message(), error.ctx) from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from rqdisco.service.option_table import TOPICS

        records = {
            max(param.opts, key=len).removeprefix("--"): param.get_help_record(ctx) for param in self.get_params(ctx)
        }
        sections = [(topic.title, [option.name for option in topic.options]) for topic in TOPICS]
        for title, names in [*sections, ("Other options", ["version", "help"])]:
            with formatter.section(title):
                formatter.write_dl([record for name in names if (record := records[name]) is not None])


def _to_click(name: str, kind: str, text: str) -> click.Option:
    if name == "data-dir":
        text = f"{text.partition(' [default:')[0]} {_DIRECTORY}"
    if kind == "flag":
        return click.Option([f"--{name}"], is_flag=True, help=text)
    metavar = "N" if kind == "number" and name not in _BY_OPTION else _BY_OPTION.get(name, "NAME")
    return click.Option([f"--{name}"], multiple=kind == "list", metavar=metavar, help=text)


# Without --url, since it asks no service.
@click.command(
    cls=ServeCommand,
    epilog=example("rqdisco serve", "rqdisco serve --listen tcp:4000 --tokens /etc/rqdisco/tokens"),
)
@click.version_option(__version__, message="%(prog)s %(version)s", prog_name="rqdisco")
def serve(**options: Any) -> ServeArguments:
    """Run the discovery service.

    It prints where it listens and where it keeps its state, and runs until Ctrl-C or SIGTERM.
    Without options, only programs on this machine can reach it, at http://127.0.0.1:4000.

    Every option can also be set in the environment, --max-ids as RQDISCO_MAX_IDS (repeated values
    are separated by spaces), and in a file: --config. The command line takes precedence over the
    environment, and that over the file. `twistd rqdisco` takes the same options.

    Exit status: 64 usage, 65 damaged state, 69 cannot listen, 74 disk error, 78 state directory in
    use.
    """
    arguments: list[str] = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            arguments.append(option)
        elif value not in (None, False):
            arguments += [f"{option}={each}" for each in (value if isinstance(value, tuple) else (value,))]
    return ServeArguments(tuple(arguments))
