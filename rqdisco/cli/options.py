"""Options and arguments that several commands have in common, and how `--url` is taken before and
after a command.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from rqdisco.cli.durations import parse_duration
from rqdisco.core.ids import is_id

DEFAULT_URL = "http://127.0.0.1:4000"
_URL = "rqdisco.url"
_EMPTY = "it is empty"

F = TypeVar("F", bound=Callable[..., Any])


class _Name(click.ParamType[str]):
    """A discovery ID. Checked here, since an empty variable of a script would otherwise ask for
    something else.
    """

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not is_id(str(value)):
            self.fail(f"{value!r} is not a discovery ID: up to 64 letters, digits, dots, '-' and '_'", param, ctx)
        return str(value)


class _Text(click.ParamType[str]):
    """Text that can be sent: what a terminal gives that is no UTF-8 cannot.

    Nor is it empty, as it is where a script has no value for its variable: it would say something
    else than is meant.
    """

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            self.fail(_EMPTY, param, ctx)
        try:
            str(value).encode()
        except UnicodeEncodeError:
            self.fail("not UTF-8", param, ctx)
        return str(value)


class File(click.Path):
    """The path of a file, which is not empty."""

    def __init__(self, **more: Any) -> None:
        super().__init__(path_type=Path, **more)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value):
            self.fail(_EMPTY, param, ctx)
        return super().convert(value, param, ctx)


class _Duration(click.ParamType[float]):
    """A time span, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class LeafCommand(click.Command):
    """A command that takes the global options after its name too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_url_option())


class CommandGroup(click.Group):
    """A group of such commands."""

    command_class = LeafCommand

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_url_option())


class RootCommand(click.Group):
    """The command itself, with what the global options are if they are nowhere given."""

    command_class = LeafCommand

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_url_option(default=DEFAULT_URL, envvar="RQDISCO_URL", show_default=True, show_envvar=True))


def url_of(ctx: click.Context) -> str:
    """The URL that was given last on the command line, else in the environment. Raises
    click.UsageError.
    """
    url: str = ctx.meta[_URL]
    return url or setting("URL", "that of the service") or DEFAULT_URL


def setting(name: str, what: str) -> str | None:
    """Return RQDISCO_`name` from the environment, None if it is unset.

    Raises click.UsageError if it is empty, since a script that has no value for it does not mean
    the default; `what` says what to set it to.
    """
    text = os.environ.get(f"RQDISCO_{name}")
    if text == "":
        raise click.UsageError(f"RQDISCO_{name} is empty: set it to {what}, or unset it")
    return text


DISCOVERY_ID = _Name()
TEXT = _Text()
DURATION = _Duration()
the_id = click.argument("discovery_id", metavar="ID", type=DISCOVERY_ID)
wait = click.option(
    "--wait",
    type=click.FloatRange(0, 1e9),
    default=0,
    metavar="S",
    help="Try again for S seconds while the service is away or says 503.",
)
token_file = click.option(
    "--file",
    type=File(dir_okay=False),
    required=True,
    envvar="RQDISCO_TOKENS",
    show_envvar=True,
    metavar="FILE",
    help="The file of tokens.",
)


def cas(zero: str) -> Callable[[F], F]:
    """`--cas`; `zero` says what 0 stands for."""
    return click.option(
        "--cas", type=click.IntRange(0), metavar="N", help=f"Only if the record's index is N; 0: {zero}."
    )


def sure(what: str) -> Callable[[F], F]:
    """`--yes`."""
    return click.option("--yes", "sure", is_flag=True, help=what)


def _url_option(**more: Any) -> click.Option:
    return click.Option(
        ["--url"],
        metavar="URL",
        expose_value=False,
        callback=_remember_url,
        help="Where the service is: http://HOST:PORT, https://USER:PASSWORD@HOST:PORT or unix:/PATH.",
        **more,
    )


def _remember_url(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value == "":
        raise click.BadParameter(_EMPTY, ctx, param)
    # An empty variable of the environment is none to click.
    is_default = ctx.get_parameter_source("url") is ParameterSource.DEFAULT
    if value is not None:
        ctx.meta[_URL] = "" if is_default else value
