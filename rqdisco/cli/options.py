"""Parts for the definition of commands: types of values, shared options and arguments, command
classes that accept `--url` before and after the command, and the settings in the environment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from rqdisco.cli.durations import parse_duration
from rqdisco.core.ids import is_id, is_valid_name, name_objection

DEFAULT_URL = "http://127.0.0.1:4000"
# The key of the URL in click's metadata of an invocation.
_URL = "rqdisco.url"
# Longer than any first sentence of a help.
_WHOLE = 300
_EMPTY = "must not be empty"
RESERVED_NAME = "is a reserved name: the service uses it for its own paths, so no ID has it; choose another"

# The commands by task, in the order of the help.
TASKS = {
    "Set up a cluster": ("create", "register", "flags", "completion"),
    "Look": ("list", "status", "show", "nodes", "watch"),
    "Repair": ("remove", "prune", "reset", "leader"),
    "Operate": (
        *("serve", "config", "systemd", "token", "peers", "drain", "export", "import", "backup", "restore"),
        *("migrate", "freeze", "thaw", "etcd"),
    ),
}

# A decorator returns the function that it is given, whatever its parameters.
F = TypeVar("F", bound=Callable[..., Any])


class _DiscoveryID(click.ParamType[str]):
    """A discovery ID. An empty one would address another resource."""

    name = "id"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not is_id(str(value)):
            self.fail(f"{value!r} is not a discovery ID: up to 64 letters, digits, dots, '-' and '_'", param, ctx)
        if not is_valid_name(str(value)):
            self.fail(f"{value!r} {RESERVED_NAME}", param, ctx)
        return str(value)


class _NewName(click.ParamType[str]):
    """The name of a discovery ID to be created."""

    name = "name"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if (objection := name_objection(str(value))) is not None:
            self.fail(f"{value!r} cannot be the name of an ID: {objection}", param, ctx)
        return str(value)


class _Text(click.ParamType[str]):
    """Non-empty UTF-8 text. An empty value usually comes from an unset variable of a script."""

    name = "text"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            self.fail(_EMPTY, param, ctx)
        try:
            str(value).encode()
        except UnicodeEncodeError:
            self.fail("must be UTF-8", param, ctx)
        return str(value)


class _Service(click.ParamType[str]):
    """The URL of a service."""

    name = "url"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        # Imported here since few commands need it.
        from rqdisco.client.urls import parse_url

        try:
            parse_url(str(value))
        except ValueError as error:
            self.fail(f"not a service URL: {error}", param, ctx)
        return str(value)


class FilePath(click.Path):
    """A non-empty path of a file; parameters as for click.Path."""

    def __init__(self, *, exists: bool = False, dir_okay: bool = False, allow_dash: bool = False) -> None:
        super().__init__(path_type=Path, exists=exists, dir_okay=dir_okay, allow_dash=allow_dash)

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        if not str(value):
            self.fail(_EMPTY, param, ctx)
        return super().convert(value, param, ctx)


class _Duration(click.ParamType[float]):
    """A duration, converted to seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _HelpFormatter(click.HelpFormatter):
    """Leaves more room for explanations on narrow terminals, so that no URL is split."""

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        super().write_dl(rows, min(col_max, max(self.width // 4, 10)), col_spacing)


class _Context(click.Context):
    formatter_class = _HelpFormatter


class LocalCommand(click.Command):
    """A command that contacts no daemon."""

    context_class = _Context


class LeafCommand(LocalCommand):
    """A command that also accepts the global options after its name."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return _with_url_option(super().get_params(ctx))


class CommandGroup(click.Group):
    """A group of commands that also accepts the global options."""

    command_class = LeafCommand
    context_class = _Context

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return _with_url_option(super().get_params(ctx))


class RootCommand(click.Group):
    """The `rqdisco` command itself, which has `ROOT_URL_OPTION`. Its help lists commands by task."""

    command_class = LeafCommand
    context_class = _Context

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in TASKS.items():
            rows = [
                (name, command.get_short_help_str(_WHOLE))
                for name in names
                if (command := self.get_command(ctx, name)) is not None
            ]
            with formatter.section(title):
                formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            if similar := get_close_matches(args[0], self.list_commands(ctx), n=1):
                raise click.UsageError(f"No such command {args[0]!r}. Did you mean {similar[0]!r}?", ctx) from None
            raise


def service_url(ctx: click.Context) -> str:
    """Return the last URL on the command line, else that of the environment. Raises
    click.UsageError.
    """
    url: str = ctx.meta[_URL]
    return url or environment_setting("URL", "the URL of the service") or DEFAULT_URL


def environment_setting(name: str, what: str) -> str | None:
    """Return RQDISCO_`name` from the environment, None if it is unset.

    Raises click.UsageError if it is empty, since a script without a value for it does not mean the
    default. `what` describes the value in that error.
    """
    text = os.environ.get(f"RQDISCO_{name}")
    if text == "":
        raise click.UsageError(f"RQDISCO_{name} is empty: set it to {what}, or unset it")
    return text


def service_token(name: str, whose: str) -> str | None:
    """Return the token in the variable RQDISCO_`name`; an option would be visible to other users of
    the host. Raises click.UsageError.
    """
    from rqdisco.client.urls import check_token

    token = environment_setting(name, f"a token of {whose}")
    try:
        return None if token is None else check_token(token)
    except ValueError as error:
        raise click.UsageError(f"invalid RQDISCO_{name}: {error}") from None


def example(*lines: str) -> str:
    """Return the end of a command's help: command lines that work as they are, with other values."""
    return "\b\n" + "\n".join(("Example:" if len(lines) == 1 else "Examples:", *(f"  {line}" for line in lines)))


DISCOVERY_ID = _DiscoveryID()
NEW_NAME = _NewName()
TEXT = _Text()
SERVICE = _Service()
DURATION = _Duration()
format_option = click.option(
    "--format",
    "as_json",
    type=click.Choice(("text", "json")),
    default="text",
    show_default=True,
    callback=lambda ctx, param, value: value == "json",
    help="Form of the results on stdout.",
)
id_argument = click.argument("discovery_id", metavar="ID", type=DISCOVERY_ID)
wait_option = click.option(
    "--wait",
    type=click.FloatRange(0, 1e9),
    default=0,
    metavar="S",
    help="Retry for S seconds while the service is down or responds 503.",
)
token_file_option = click.option(
    "--file",
    type=FilePath(),
    required=True,
    envvar="RQDISCO_TOKENS",
    show_envvar=True,
    metavar="FILE",
    help="The token file.",
)


def cas_option(zero: str) -> Callable[[F], F]:
    """Return the option `--cas`; `zero` is the meaning of 0."""
    return click.option(
        "--cas", type=click.IntRange(0), metavar="N", help=f"Change the key only if its index is N; 0: {zero}."
    )


def yes_option(text: str) -> Callable[[F], F]:
    """Return the option `--yes`."""
    return click.option("--yes", is_flag=True, help=text)


def _remember_url(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value == "":
        raise click.BadParameter(_EMPTY, ctx, param)
    # click takes an empty environment variable for an unset one.
    is_default = ctx.get_parameter_source("url") is ParameterSource.DEFAULT
    if value is not None:
        ctx.meta[_URL] = "" if is_default else value


def _with_url_option(params: list[click.Parameter]) -> list[click.Parameter]:
    # --help stays last.
    return [*params[:-1], _URL_OPTION, params[-1]]


def _url_option(*, is_root: bool) -> click.Option:
    return click.Option(
        ["--url"],
        metavar="URL",
        expose_value=False,
        callback=_remember_url,
        help="The URL of the service: http://HOST:PORT, https://USER:PASSWORD@HOST:PORT or unix:/PATH.",
        default=DEFAULT_URL if is_root else None,
        envvar="RQDISCO_URL" if is_root else None,
        show_default=is_root,
        show_envvar=is_root,
    )


_URL_OPTION = _url_option(is_root=False)
# With the defaults, which the options after a command do not have.
ROOT_URL_OPTION = _url_option(is_root=True)
