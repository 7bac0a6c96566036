"""Numbers of money: payment cards with their check digit, and IBANs with their checksum and their country's length."""

import re

from tracemill.ingest.redact.rules import SEPARATOR, Rule, Span, alone, digits

_SEP = SEPARATOR
_SEP_AT = re.compile(SEPARATOR.encode())
_COUNTRIES = {
    15: "NO", 16: "BE", 18: "DK FO FI GL NL SD FK", 19: "MK SI", 20: "AT BA EE KZ LT LU XK MN", 21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST", 26: "IS TR", 27: "FR GR IT MC MR SM BI DJ", 28: "AL AZ BY CY DO GT HU LB PL SV NI",
    29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
}  # fmt: skip
_IBAN_LENGTHS = {code: length for length, codes in _COUNTRIES.items() for code in codes.split()}


def luhn(number: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812)."""
    total = 0
    for at, char in enumerate(reversed(number)):
        value = ord(char) - 48
        total += value if at % 2 == 0 else (value * 2 - 9 if value > 4 else value * 2)
    return total % 10 == 0


def _network(number: str) -> bool:
    """Whether a payment network gives out numbers that begin so, of this length."""
    head, size = int(number[:4]), len(number)
    if number[0] == "4":
        return size in (13, 16, 18, 19)
    if number[0] == "3":
        amex, diners = head // 100 in (34, 37), head // 100 in (36, 38, 39) or 3000 <= head <= 3059 or head == 3095
        return (amex and size == 15) or (diners and 14 <= size <= 19) or (3528 <= head <= 3589 and 16 <= size <= 19)
    if 2200 <= head <= 2204 or 2221 <= head <= 2720:
        return 16 <= size <= 19
    return number[0] in "56" or head // 100 in (81, 82)


def _card(data: bytes, start: int, end: int) -> Span | None:
    """13 to 19 digits that a network gives out, with a right check digit; no fraction of a decimal number."""
    number = digits(data[start:end])
    before = data[max(0, start - 2) : start]
    if before[-1:] == b"." and (before[:1].isdigit() or not before[:1].strip()):
        return None
    if not 13 <= len(number) <= 19 or not alone(data, start, end, joints=b".-") or len(set(number)) == 1:
        return None
    return (start, end) if _network(number) and luhn(number) else None


def _iban(data: bytes, start: int, end: int) -> Span | None:
    """As many letters and digits as the country's IBANs have, with a remainder of 1 modulo 97."""
    wanted = _IBAN_LENGTHS.get(data[start : start + 2].decode().upper(), 0)
    found: list[str] = []
    at = start
    while len(found) < wanted and at < len(data):
        char = data[at : at + 1]
        if char.isalnum():
            found.append(char.decode("ascii").upper())
            at += 1
        elif (gap := _SEP_AT.match(data, at)) and data[gap.end() : gap.end() + 1].isalnum():
            at = gap.end()
        else:
            return None
    if not wanted or len(found) < wanted or data[at : at + 1].isalnum():
        return None
    rearranged = "".join(str(int(char, 36)) for char in found[4:] + found[:4])
    return (start, at) if int(rearranged) % 97 == 1 else None


CARD = (
    Rule(
        kind="CARD",
        pattern=rf"\b(?:[2-68][0-9]{{12,18}}|[2-68][0-9]{{3}}(?:{_SEP}[0-9]{{4}}){{3}}(?:{_SEP}?[0-9]{{1,3}})?|"
        rf"[2-68][0-9]{{3}}(?:{_SEP}[0-9]{{4}}){{2}}{_SEP}[0-9]{{1,3}}|"
        rf"3[0-9]{{3}}{_SEP}[0-9]{{6}}{_SEP}[0-9]{{4,5}}|[56][0-9]{{3}}{_SEP}[0-9]{{4}}{_SEP}[0-9]{{5}}|"
        rf"6[0-9]{{7}}{_SEP}[0-9]{{8,11}})\b",
        check=_card,
    ),
)
IBAN = (Rule(kind="IBAN", pattern=rf"(?i)\b[A-Z]{{2}}[0-9]{{2}}{_SEP}?(?:[A-Z0-9]{_SEP}?){{8}}", check=_iban),)
TELLING_CARD = re.compile(r"(?:^|[^a-z])(?:card|credit[_-]?card|cc|pan)[_-]?(?:number|no|num|nr)?$", re.IGNORECASE)
"""Names of members that hold a card number."""
