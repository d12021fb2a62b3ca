"""Classes of commands: those with a service accept `--url` before and after the command, and the
help lists commands by task.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

import click

from rqdisco.cli.options import URL_OPTION

# Longer than any first sentence of a help.
_WHOLE = 300

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


class _HelpFormatter(click.HelpFormatter):
    """Leaves more room for explanations on narrow terminals, so that no URL is split."""

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        super().write_dl(rows, min(col_max, max(self.width // 4, 10)), col_spacing)


class _Context(click.Context):
    formatter_class = _HelpFormatter


class LocalCommand(click.Command):
    """A command that contacts no daemon."""

    context_class = _Context


class LocalGroup(click.Group):
    """A group of commands that contact no daemon."""

    command_class = LocalCommand
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


def _with_url_option(params: list[click.Parameter]) -> list[click.Parameter]:
    # --help stays last.
    return [*params[:-1], URL_OPTION, params[-1]]
