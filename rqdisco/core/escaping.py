"""Text of strangers as it may be shown: it moves no cursor, begins no line, and rings no bell."""

from __future__ import annotations

import json
import re

_UNSAFE = re.compile(rb"\x7f|\xc2[\x80-\x9f]")
_CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f]")
_NOT_ASCII = re.compile(r"[^\n -~]")


def escape_untrusted(text: str) -> str:
    """The text with escapes for what cannot be seen: control characters, line ends, marks that turn
    the writing.
    """
    return text if text.isprintable() else "".join(map(_character, text))


def escape_untrusted_json(line: bytes) -> bytes:
    """JSON in which the control characters that JSON allows are escapes, too: DEL, and those that
    follow it in Latin-1, which some terminals take for the beginning of a command.
    """
    if b"\xc2" not in line and b"\x7f" not in line:
        return line
    return _UNSAFE.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), line)


def ascii_json(lines: bytes) -> bytes:
    """Lines of JSON that say the same in ASCII that can be seen. Raises ValueError for what is in
    no line of JSON.
    """
    if _CONTROL.search(lines):
        raise ValueError("it has a control character")
    if lines.isascii() and b"\x7f" not in lines:
        return lines
    try:
        text = lines.decode()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    return _NOT_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], text).encode()


def _character(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
