"""JSON's escapes, seen through: what could hide behind them is looked at as what it is."""

import re

_ESCAPE = re.compile(r"(?<!\\)\\++(?:u00([2-7][0-9a-fA-F])|(/))")


def unescaped(text: str) -> str:
    """The text without the escapes behind which something could hide."""
    return _ESCAPE.sub(_unescape, text) if "\\" in text else text


def blanked(data: bytes) -> bytes:
    """JSON's escaped control characters as two blanks: a word may follow them, and their letter is no part of it."""
    if b"\\" in data:
        for letter in b"nrtbf":
            data = data.replace(b"\\" + bytes((letter,)), b"  ")
    return data


def _unescape(match: re.Match[str]) -> str:
    if match.group(2):
        return "/"
    char = chr(int(match.group(1), 16))
    return match.group(0) if char in '"\\\x7f' else char
