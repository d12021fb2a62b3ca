"""The configuration file: TOML with the names of the options."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

from rqdisco.service.option_table import OPTIONS, Option
from rqdisco.service.option_values import MOST
from rqdisco.service.settings import Setting, Value

_EXPECTED = {
    "text": "text in quotation marks",
    "number": "a number",
    "flag": "true or false",
    "list": 'a list of texts, such as ["a", "b"]',
}
# Far more than all options take: a device or a wrong file is not read to its end.
_MAX_BYTES = 1 << 20
# Options of the kind text that are yes or no.
_YES_OR_NO = frozenset({"kv-create"})


class BadConfigFile(ValueError):
    """A configuration file is invalid. Each problem is one line: the file, the line, the key and what
    is expected.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(problems[0])
        self.problems = problems


def read_config_file(path: Path) -> dict[str, Setting]:
    """Return the settings in a file by the names of their options. Raises BadConfigFile."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise BadConfigFile(f"{path}: {error.strerror}") from None
    if len(content) > _MAX_BYTES:
        raise BadConfigFile(f"{path}: over {_MAX_BYTES:,} bytes, which is no configuration file")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadConfigFile(f"{path}: not UTF-8") from None
    return parse_config(text.replace("\r\n", "\n"), str(path))


def parse_config(text: str, file: str) -> dict[str, Setting]:
    """Return the settings in the content of `file` by the names of their options. Raises
    BadConfigFile, with all problems.

    A key is the name of an option without the leading hyphens; underscores count as hyphens.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadConfigFile(f"{file}: {error}") from None
    except RecursionError:
        raise BadConfigFile(f"{file}: lists or tables are nested too deeply") from None
    except ValueError:
        # tomllib leaves it to Python to refuse an integer of over 4,300 digits.
        raise BadConfigFile(f"{file}: a number has too many digits") from None
    settings: dict[str, Setting] = {}
    problems: list[str] = []
    for key, value in content.items():
        name, where = key.replace("_", "-"), _place(file, text, key)
        problem = _key_problem(name, key if key.isprintable() else repr(key), value, settings)
        if problem is None:
            settings[name] = Setting(_value(OPTIONS[name], value), where)
        else:
            problems.append(f"{where}: {problem}")
    if problems:
        raise BadConfigFile(*problems)
    return settings


def suggest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return `; did you mean NAME?` with the nearest known name, nothing if none is near. What the
    names have in common, `prefix`, does not make them near.
    """
    near = get_close_matches(name.removeprefix(prefix), [each.removeprefix(prefix) for each in known], n=1)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def _place(file: str, text: str, key: str) -> str:
    """Return the file and the line of a key; tomllib does not keep lines."""
    match = re.search(rf"""^[ \t]*\[?[ \t]*["']?{re.escape(key)}["']?[ \t]*[=.\]]""", text, re.MULTILINE)
    return file if match is None else f"{file} line {text.count(chr(10), 0, match.start()) + 1}"


def _key_problem(name: str, key: str, value: object, before: Mapping[str, Setting]) -> str | None:
    """Return what is wrong with a key and its value, None if nothing is."""
    if name not in OPTIONS:
        if isinstance(value, dict):
            return f"{key} is a table; options are not grouped: write NAME = VALUE"
        return f"{key} is not an option{suggest(name, OPTIONS)}"
    if name == "config":
        return f"{key}: a configuration file cannot name another one"
    if name in before:
        return f"{key}: given twice, with hyphens and with underscores"
    return _value_problem(OPTIONS[name], key, value)


def _value_problem(option: Option, key: str, value: object) -> str | None:
    if not _fits(option, value):
        return f"{key}: expected {_EXPECTED[option.kind]}, not {_describe(value)}"
    if value in ("", []):
        return f"{key}: empty; leave it out for the default"
    if any("\0" in each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)):
        return f"{key}: contains a NUL character"
    if isinstance(value, int) and abs(value) > MOST:
        return f"{key}: not between {-MOST:g} and {MOST:g}"
    return None


def _fits(option: Option, value: object) -> bool:
    if option.kind == "flag":
        return isinstance(value, bool)
    if option.kind == "list":
        elements = value if isinstance(value, list) else [value]
        return all(isinstance(each, str) for each in elements)
    if option.kind == "number":
        return isinstance(value, (int, float, str)) and not isinstance(value, bool)
    return isinstance(value, str) or (isinstance(value, bool) and option.name in _YES_OR_NO)


def _describe(value: object) -> str:
    kinds = {bool: "true or false", str: "text", int: "a number", float: "a number", list: "a list", dict: "a table"}
    if isinstance(value, list) and any(not isinstance(each, str) for each in value):
        return "a list with other elements"
    return kinds.get(type(value), "a date or time")


def _value(option: Option, value: object) -> Value:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if option.kind == "list":
        return tuple(map(str, value)) if isinstance(value, list) else (str(value),)
    return str(value)
