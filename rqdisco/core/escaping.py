"""Escape untrusted text, so that it cannot move the cursor, start a line or ring the bell."""

from __future__ import annotations

import json
import re

_UNSAFE = re.compile(rb"\x7f|\xc2[\x80-\x9f]")
_CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f]")
_NOT_ASCII = re.compile(r"[^\n -~]")


def escape_untrusted(text: str) -> str:
    """Escape characters that are not printable: control characters, line ends, marks that change
    the direction of writing.
    """
    return text if text.isprintable() else "".join(map(_character, text))


def escape_untrusted_json(line: bytes) -> bytes:
    """Escape the control characters that JSON allows: DEL and those of Latin-1 after it, which some
    terminals take for the start of a command.
    """
    if b"\x7f" not in line and (line.isascii() or b"\xc2" not in line):
        return line
    return _UNSAFE.sub(lambda match: b"\\u%04x" % ord(match[0].decode()), line)


def ascii_json(lines: bytes) -> bytes:
    """Rewrite lines of JSON in printable ASCII. Raises ValueError for what is not valid in a line
    of JSON.
    """
    if _CONTROL.search(lines):
        raise ValueError("it has a control character")
    if lines.isascii() and b"\x7f" not in lines:
        return lines
    try:
        text = lines.decode()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    return _NOT_ASCII.sub(lambda match: json.dumps(match[0])[1:-1], text).encode()


def _character(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
