"""The flags for rqlited, quoted for each format that they are pasted into."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqdisco.recipes.flags import FlagsRequest, make_flags
from rqdisco.recipes.quoting import Target, quote_flags

ID = "9af5306d-5842-851c-a00f-72fe57b0eb16"
URL = "http://rqdisco:4000"

# What a process can be given: no NUL, and text that is UTF-8.
arguments = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1)


def unquote_systemd(line: str) -> list[str]:
    """Return the words of a command line in a unit: quotes and escapes, then specifiers, then
    variables.
    """
    words = []
    for quoted_word, plain in re.findall(r"'((?:\\.|[^'\\])*)'|([^\s']+)", line):
        text = re.sub(rb"\\(?:x(..)|(.))", _unescape, (quoted_word or plain).encode())
        words.append(text.decode().replace("%%", "%").replace("$$", "$"))
    return words


def _unescape(match: re.Match[bytes]) -> bytes:
    return match[2] if match[1] is None else bytes.fromhex(match[1].decode())


def unquote_kubernetes(text: str) -> str:
    """`$$` is `$`, `$(NAME)` a variable, any other `$` itself."""
    assert not re.search(r"(?<!\$)(?:\$\$)*\$\(", text), "a variable"
    return text.replace("$$", "$")


def parse_yaml(member: str, unquote: Callable[[str], str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        head, *items = text.split("\n")
        assert head == f"{member}:"
        assert all(item.startswith("  - ") for item in items)
        return [unquote(json.loads(item.removeprefix("  - "))) for item in items]

    return parse


READERS: dict[str, Callable[[str], list[str]]] = {
    "shell": shlex.split,
    "systemd": unquote_systemd,
    "compose": parse_yaml("command", lambda text: text.replace("$$", "$")),
    "k8s": parse_yaml("args", unquote_kubernetes),
}


@given(target=st.sampled_from(sorted(READERS)), arguments=arguments)
def test_arguments_survive_quoting_for_every_target(target: Target, arguments: list[str]) -> None:
    assert READERS[target](quote_flags(target, arguments)) == arguments


@pytest.mark.parametrize("target", READERS)
def test_json_survives_quoting_with_all_special_characters(target: Target) -> None:
    arguments = ['-disco-config={"a":"$HOME $(x) %h \'\\" ` ; \\n \\x41 ü \U0001f600"}', "-plain=1"]
    assert READERS[target](quote_flags(target, arguments)) == arguments


def test_a_line_stays_a_line_and_plain_words_stay_plain() -> None:
    made = make_flags(FlagsRequest(discovery_id=ID, version="8", mode="consul-kv", url=URL))
    config = '{"address":"rqdisco:4000"}'
    line = f"-disco-mode=consul-kv -disco-key={ID} '-disco-config={config}'"
    assert quote_flags("shell", made.arguments) == line
    assert quote_flags("systemd", made.arguments) == line
