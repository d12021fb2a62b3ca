"""The options and arguments that commands share, and the settings in the environment."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from rqdisco.cli.parameter_types import DISCOVERY_ID, EMPTY, FilePath

DEFAULT_URL = "http://127.0.0.1:4000"
# The key of the URL in click's metadata of an invocation.
_URL = "rqdisco.url"

# A decorator returns the function that it is given, whatever its parameters.
F = TypeVar("F", bound=Callable[..., Any])


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
        raise click.BadParameter(EMPTY, ctx, param)
    # click takes an empty environment variable for an unset one.
    is_default = ctx.get_parameter_source("url") is ParameterSource.DEFAULT
    if value is not None:
        ctx.meta[_URL] = "" if is_default else value


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


URL_OPTION = _url_option(is_root=False)
# With the defaults, which the options after a command do not have.
ROOT_URL_OPTION = _url_option(is_root=True)
