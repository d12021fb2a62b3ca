"""Types of the values that options and arguments take."""

from __future__ import annotations

import os
from pathlib import Path

import click

from rqdisco.cli.durations import parse_duration
from rqdisco.core.ids import is_id, is_valid_name, name_objection

EMPTY = "must not be empty"
_RESERVED_NAME = "is a reserved name: the service uses it for its own paths, so no ID has it; choose another"


class _DiscoveryID(click.ParamType[str]):
    """A discovery ID. An empty one would address another resource."""

    name = "id"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not is_id(str(value)):
            self.fail(f"{value!r} is not a discovery ID: up to 64 letters, digits, dots, '-' and '_'", param, ctx)
        if not is_valid_name(str(value)):
            self.fail(f"{value!r} {_RESERVED_NAME}", param, ctx)
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
            self.fail(EMPTY, param, ctx)
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
            self.fail(EMPTY, param, ctx)
        return super().convert(value, param, ctx)


class _Duration(click.ParamType[float]):
    """A duration, converted to seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


DISCOVERY_ID = _DiscoveryID()
NEW_NAME = _NewName()
TEXT = _Text()
SERVICE = _Service()
DURATION = _Duration()
