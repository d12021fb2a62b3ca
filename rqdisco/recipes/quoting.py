"""Flags quoted for a shell, a systemd unit and YAML. Pure."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from typing import Literal, get_args

Target = Literal["shell", "systemd", "compose", "k8s"]
TARGETS: tuple[Target, ...] = get_args(Target)

_PLAIN_WORD = re.compile(r"[A-Za-z0-9_./:=@,-]+\Z")


def quote_flags(target: Target, arguments: Sequence[str]) -> str:
    """Quote the arguments for a target: as words of a line for shell and systemd, as a YAML member
    for the others.
    """
    if target == "shell":
        return shlex.join(arguments)
    if target == "systemd":
        return " ".join(map(_systemd_word, arguments))
    member = "command" if target == "compose" else "args"
    # Both read $$ as $. Kubernetes also leaves a $ without a parenthesis alone.
    return "\n".join([f"{member}:", *(f"  - {_yaml_string(text.replace('$', '$$'))}" for text in arguments)])


def _systemd_word(text: str) -> str:
    if _PLAIN_WORD.match(text):
        return text
    escaped = "".join(_systemd_character(character) for character in text)
    return f"'{escaped}'"


def _systemd_character(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character in "%$":
        return character * 2
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode())


def _yaml_string(text: str) -> str:
    """Return a JSON string that YAML reads too: it takes unprintable characters only escaped, and
    no surrogate pairs.
    """
    written = json.dumps(text, ensure_ascii=False)
    return "".join(
        character if character.isprintable() or ord(character) > 0xFFFF else f"\\u{ord(character):04x}"
        for character in written
    )
