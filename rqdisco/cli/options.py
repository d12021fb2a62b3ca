"""Options and arguments that several commands have in common, and how `--url` is taken before and after a command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from rqdisco.cli.durations import parse
from rqdisco.ids import is_id

DEFAULT_URL = "http://127.0.0.1:4000"
_URL = "rqdisco.url"

F = TypeVar("F", bound=Callable[..., Any])


class _Name(click.ParamType[str]):
    """A discovery ID. Checked here, since an empty variable of a script would otherwise ask for something else."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not is_id(str(value)):
            self.fail(f"{value!r} is not a discovery ID: up to 64 letters, digits, dots, '-' and '_'", param, ctx)
        return str(value)


class _Text(click.ParamType[str]):
    """Text that can be sent: what a terminal gives that is no UTF-8 cannot."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            str(value).encode()
        except UnicodeEncodeError:
            self.fail("not UTF-8", param, ctx)
        return str(value)


class _Duration(click.ParamType[float]):
    """A time span, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Leaf(click.Command):
    """A command that takes the global options after its name too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_url_option())


class Branch(click.Group):
    """A group of such commands."""

    command_class = Leaf

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_url_option())


class Root(click.Group):
    """The command itself, with what the global options are if they are nowhere given."""

    command_class = Leaf

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_url_option(default=DEFAULT_URL, envvar="RQDISCO_URL", show_default=True, show_envvar=True))


def url_of(ctx: click.Context) -> str:
    """The URL that was given last on the command line, else in the environment."""
    url: str = ctx.meta[_URL]
    return url


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
cas = click.option(
    "--cas", type=click.IntRange(0), metavar="N", help="Only if the record's index is N; 0: if there is none."
)


token_file = click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    envvar="RQDISCO_TOKENS",
    show_envvar=True,
    metavar="FILE",
    help="The file of tokens.",
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


def _remember_url(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.meta[_URL] = value
