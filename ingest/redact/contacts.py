"""How a person is reached: e-mail addresses and telephone numbers, as they are written around the world."""

import re

from tracemill.ingest.redact.rules import SEPARATOR, Rule, Span, alone, digits

_LETTER = r"(?:[A-Za-z0-9_%+]|[\xc3-\xc9][\x80-\xbf])"  # also the Latin letters with marks
_INNER = r"(?:[A-Za-z0-9._%+'-]|[\xc3-\xc9][\x80-\xbf])"
_HOST = r"(?:[A-Za-z0-9]|[\xc3-\xc9][\x80-\xbf])"
_AT = r"(?:@|%40|&#64;|&#x40;)"
_DOT = r"(?:\.|%2[Ee])"

_TWO = (7, 1, 20, 27, 30, 31, 32, 33, 34, 36, 39, 40, 41, *range(43, 50), *range(51, 59), *range(60, 67), 81, 82, 84,
    86, *range(90, 96), 98)  # fmt: skip
_THREE = (211, 212, 213, 216, 218, *range(220, 270), *range(290, 300), *range(350, 360), *range(370, 390), 420, 421,
    423, *range(500, 510), *range(590, 600), *range(670, 693), 800, 808, 850, 852, 853, 855, 856, 870, 878, 880, 881,
    882, 883, 886, 888, *range(960, 969), *range(970, 978), 979, *range(992, 999))  # fmt: skip
_CALLING_CODES = tuple(str(code) for code in (*_TWO, *_THREE))


_DATE = re.compile(
    rb"\+?(?:19|20)[0-9]{2}[-. /]?[01][0-9][-. /]?[0-3][0-9]|\(?0?[0-9][-./][01]?[0-9][-./](?:19|20)[0-9]{2}"
)
_SINGLE = re.compile(rb"(?<![0-9])[0-9](?![0-9])")
_MOBILE = re.compile(rb"07[1-9][0-9]{8}|01[5-7][0-9]{8,9}|0[67][0-9]{8}|04[0-9]{8}")
_SEP = rf"(?:{SEPARATOR}|[/()])"


def _international(data: bytes, start: int, end: int) -> Span | None:
    """A number with its country's calling code; in North America exactly ten digits follow."""
    piece = data[start:end]
    number = digits(piece).removeprefix("00")
    if data[max(0, start - 1) : start].isalnum() or _DATE.match(piece) or len(_SINGLE.findall(piece)) > 3:
        return None
    if not number.startswith(_CALLING_CODES):
        return None
    if piece.startswith(b"00") and (
        len(number) < 10 or b"." in piece or data[max(0, start - 1) : start] in (b".", b",", b"-")
    ):
        return None
    if number[0] == "1":
        if len(number) < 11 or number[1] in "01" or number[4] in "01":
            return None
        end = _after(data, start, 11 + 2 * piece.startswith(b"00"))
    if not 8 <= len(number) <= 15 or data[end : end + 1].isalnum():
        return None
    return start, end


def _north_american(data: bytes, start: int, end: int) -> Span | None:
    number = digits(data[start:end])[-10:]
    ok = alone(data, start, end, joints=b".-/:,") and number[0] not in "01" and number[3] not in "01"
    return (start, end) if ok else None


def _trunk(data: bytes, start: int, end: int) -> Span | None:
    """A national number with the trunk zero: nine to twelve digits in two or more groups, or a known mobile range."""
    piece = data[start:end]
    number = digits(piece)
    if not 9 <= len(number) <= 12 or not alone(data, start, end, joints=b".-/:,") or _DATE.match(piece):
        return None
    if piece.isdigit():
        return (start, end) if _MOBILE.fullmatch(piece) else None
    if len(number) == 9 and b"-" in piece:
        return None
    pairs = re.fullmatch(rb"[0-9]{2}(?:[ .-][0-9]{2})+", piece)
    return None if pairs and len(number) != 10 else (start, end)


def _named(data: bytes, start: int, end: int) -> Span | None:
    """A number after a word for telephone."""
    number = digits(data[start:end])
    before = data[max(0, start - 48) : start]
    ok = 7 <= len(number) <= 15 and not before[-1:].isalnum() and not data[end : end + 1].isalnum()
    return (start, end) if ok and not _DATE.match(data[start:end]) else None


def _after(data: bytes, start: int, count: int) -> int:
    """Where the `count`-th digit ends."""
    at = start
    while count:
        count -= 48 <= data[at] <= 57
        at += 1
    return at


EMAIL = (
    Rule(
        kind="EMAIL",
        pattern=rf"\b({_LETTER}(?:{_INNER}*{_LETTER})?{_AT}"
        rf"(?:{_HOST}(?:(?:{_HOST}|-)*{_HOST})?{_DOT})+[A-Za-z]{{2,24}})",
    ),
)

PHONE = (
    Rule(
        kind="PHONE",
        pattern=rf"((?:\+|%2[Bb]|\b00)[1-9](?:{_SEP}{{0,3}}[0-9]){{7,14}})\b",
        check=_international,
    ),
    Rule(
        kind="PHONE",
        pattern=r"(?:\b1[ .-]?)?(?:\([2-9][0-9]{2}\)[ .-]?|\b[2-9][0-9]{2}[.-])[2-9][0-9]{2}[ .-][0-9]{4}\b|"
        r"\b[2-9][0-9]{2} [2-9][0-9]{2}[ -][0-9]{4}\b",
        check=_north_american,
    ),
    Rule(
        kind="PHONE",
        pattern=r"(?:\(0[1-9][0-9]{0,4}\)|\b0[1-9][0-9]{0,4})[ /.-]{1,3}[0-9]{2,8}(?:[ .-][0-9]{2,8}){0,4}\b|"
        r"\b0[1-9][0-9]{8,10}\b",
        check=_trunk,
    ),
    Rule(kind="PHONE", pattern=r"\([1-9][0-9]{1,3}\) ?9? ?[0-9]{4}[- ][0-9]{4}\b", check=_named),
    Rule(
        kind="PHONE",
        pattern=r"(?i)\b(?:(?:tele)?phone|mobile|cell(?:phone)?|tel(?:efon[eo]?)?|tel\xc3\xa9fono|fax|whatsapp|handy|"
        r"msisdn)(?:[ _-]?(?:number|no|num|nr))?[.]?(?:\\*[\"'])?(?: is|[ :=#]){1,4}(?:\\*[\"'])?"
        rf"(\+?\(?[0-9](?:{_SEP}{{0,2}}[0-9]){{6,14}})\b",
        check=_named,
    ),
)
TELLING_PHONE = re.compile(
    r"(?:^|[^a-z])(?:(?:tele)?phone|mobile|cell(?:phone)?|tel|fax|whatsapp|msisdn)(?:[_-]?(?:number|no|num|nr))?$",
    re.IGNORECASE,
)
"""Names of members that hold a telephone number."""
