"""National identity, social security and tax numbers: those that their form and check digits tell from other numbers.

A number that only its name tells (a German tax id, a Dutch BSN, a passport) is taken where its name stands before it.
"""

import re
from collections.abc import Callable
from datetime import date
from string import ascii_uppercase

from tracemill.ingest.redact.numbers import luhn
from tracemill.ingest.redact.rules import Check, Rule, Span, alone, digits

_D = (  # Verhoeff's dihedral table, of the Aadhaar number
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 4, 0, 6, 7, 8, 9, 5), (2, 3, 4, 0, 1, 7, 8, 9, 5, 6),
    (3, 4, 0, 1, 2, 8, 9, 5, 6, 7), (4, 0, 1, 2, 3, 9, 5, 6, 7, 8), (5, 9, 8, 7, 6, 0, 4, 3, 2, 1),
    (6, 5, 9, 8, 7, 1, 0, 4, 3, 2), (7, 6, 5, 9, 8, 2, 1, 0, 4, 3), (8, 7, 6, 5, 9, 3, 2, 1, 0, 4),
    (9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
)  # fmt: skip
_P = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
_ODD_VALUES = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
_ODD = {**dict(zip("0123456789", _ODD_VALUES, strict=False)), **dict(zip(ascii_uppercase, _ODD_VALUES, strict=True))}


def _weighted(number: str, weights: tuple[int, ...]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(number, weights, strict=False))


def _day(year: str, month: str, day: str) -> bool:
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return False
    return True


def ssn(number: str) -> bool:
    """US social security number, or taxpayer number (9xx)."""
    area, group, serial = number[:3], number[3:5], number[5:]
    if area[0] == "9":
        return 50 <= int(group) <= 99 and group not in ("89", "93")
    return area not in ("000", "666") and group != "00" and serial != "0000"


def aadhaar(number: str) -> bool:
    """India, by Verhoeff's check digit."""
    check, power = 0, tuple(range(10))
    for digit in reversed(number):
        check = _D[check][power[int(digit)]]
        power = tuple(_P[value] for value in power)
    return check == 0


def cpf(number: str) -> bool:
    """Brazil."""
    first = _weighted(number, tuple(range(10, 1, -1))) * 10 % 11 % 10
    second = _weighted(number, tuple(range(11, 1, -1))) * 10 % 11 % 10
    return len(set(number)) > 1 and (first, second) == (int(number[9]), int(number[10]))


def dni(text: str) -> bool:
    """Spain: DNI and NIE."""
    number = text[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2")
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == text[-1]


def codice_fiscale(text: str) -> bool:
    """Italy."""
    even = sum(int(char, 36) - 10 * char.isalpha() for char in text[1:15:2])
    return (even + sum(_ODD[char] for char in text[0:15:2])) % 26 == ord(text[15]) - 65


def nir(number: str) -> bool:
    """France: social security number with its key."""
    return number[3:5] < "13" and number[3:5] > "00" and 97 - int(number[:13]) % 97 == int(number[13:])


def chinese(text: str) -> bool:
    """China: resident identity number."""
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return _day(text[6:10], text[10:12], text[12:14]) and "10X98765432"[_weighted(text, weights) % 11] == text[17]


def ahv(number: str) -> bool:
    """Switzerland: AHV number, by EAN-13."""
    return -_weighted(number, (1, 3) * 6) % 10 == int(number[12])


def pesel(number: str) -> bool:
    """Poland; the century stands in the month."""
    month, century = int(number[2:4]) % 20, {0: 19, 1: 20, 2: 21, 3: 22, 4: 18}[int(number[2:4]) // 20]
    valid = _day(f"{century}{number[:2]}", str(month), number[4:6])
    return valid and -_weighted(number, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10 == int(number[10])


def personnummer(number: str) -> bool:
    """Sweden."""
    return _day("20" + number[:2], number[2:4], number[4:6]) and luhn(number)


def hetu(text: str) -> bool:
    """Finland."""
    body = digits(text.encode())[:9]
    valid = _day("20" + text[4:6], text[2:4], text[:2])
    return valid and "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(body) % 31] == text[-1]


def korean(number: str) -> bool:
    """South Korea: resident registration number."""
    return _day(("19" if number[6] in "1256" else "20") + number[:2], number[2:4], number[4:6])


def belgian(number: str) -> bool:
    """Belgium: national register number."""
    return int(number[9:]) in (97 - int(number[:9]) % 97, 97 - int("2" + number[:9]) % 97)


def nino(text: str) -> bool:
    """United Kingdom: national insurance number."""
    return text[:2] not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")


def _checked(valid: Callable[[str], bool]) -> Check:
    """A check of the letters and digits of a candidate that stands by itself."""

    def check(data: bytes, start: int, end: int) -> Span | None:
        text = re.sub(r"[ .-]", "", data[start:end].decode("latin-1")).upper()
        return (start, end) if alone(data, start, end, joints=b".-") and valid(text) else None

    return check


def _named(data: bytes, start: int, end: int) -> Span | None:
    """What stands after the name of an identity number: letters and digits, at least five of them digits."""
    return (start, end) if len(digits(data[start:end])) >= 5 and not data[end : end + 1].isalnum() else None


_NAMES = (
    r"(?:ssn|itin|social[ _-]?security(?:[ _-]?(?:number|no|nr|num))?|nino|national[ _-]?(?:insurance|id(?:entity)?)"
    r"(?:[ _-]?(?:number|no))?|passport(?:[ _-]?(?:number|no|nr))?|tax[ _-]?id(?:[ _-]?(?:number|no))?|tin|bsn|"
    r"steuer[ -]?id(?:entifikationsnummer|nr)?|steuernummer|personnummer|pesel|dni|nie|cpf|cnpj|aadhaar|curp|rfc|"
    r"codice fiscale|driver'?s?[ _-]?licen[sc]e(?:[ _-]?(?:number|no))?|medicare(?:[ _-]?(?:number|no))?|"
    r"nhs(?:[ _-]?(?:number|no))?|sin|tfn)"
)
_SHAPES: tuple[tuple[str, Callable[[str], bool]], ...] = (
    (r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b|\b[0-9]{3} [0-9]{2} [0-9]{4}\b", ssn),
    (r"\b[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z](?:[0-9]{6}[A-D]| [0-9]{2} [0-9]{2} [0-9]{2} [A-D])\b", nino),
    (r"\b[2-9][0-9]{3}[ -][0-9]{4}[ -][0-9]{4}\b", aadhaar),
    (r"\b[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}\b", cpf),
    (r"\b(?:[0-9]{8}|[XYZ][0-9]{7})-?[TRWAGMYFPDXBNJZSQVHLCKE]\b", dni),
    (r"\b[A-Z]{6}[0-9]{2}[ABCDEHLMPRST][0-9]{2}[A-Z][0-9]{3}[A-Z]\b", codice_fiscale),
    (r"\b[12] ?[0-9]{2} ?[01][0-9] ?[0-9]{2} ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}\b", nir),
    (r"\b[1-9][0-9]{5}(?:19|20)[0-9]{2}[01][0-9][0-3][0-9]{4}[0-9X]\b", chinese),
    (r"\b756\.[0-9]{4}\.[0-9]{4}\.[0-9]{2}\b|\b756[0-9]{10}\b", ahv),
    (r"\b[0-9]{2}[0-3][0-9][0-3][0-9]{6}\b", pesel),
    (r"\b[0-9]{6}-[0-9]{4}\b", personnummer),
    (r"\b[0-3][0-9][01][0-9]{3}[-A][0-9]{3}[0-9A-FHJ-NPR-Y]\b", hetu),
    (r"\b[0-9]{2}[01][0-9][0-3][0-9]-[1-8][0-9]{6}\b", korean),
    (r"\b[0-9]{2}\.[01][0-9]\.[0-3][0-9]-[0-9]{3}\.[0-9]{2}\b", belgian),
    (r"\b[1-9][0-9]{2}[ -][0-9]{3}[ -][0-9]{3}\b", luhn),  # Canada
    (r"\b[A-Z]{3}[ABCFGHJLPT][A-Z][0-9]{4}[A-Z]\b", lambda text: True),  # India, tax (PAN)
)

NATIONAL_ID = (
    *(Rule(kind="ID", pattern=pattern, check=_checked(valid)) for pattern, valid in _SHAPES),
    Rule(
        kind="ID",
        pattern=rf"(?i)\b{_NAMES}(?:\\*[\"'])?(?: is|[ :=#]){{1,4}}(?:\\*[\"'])?([A-Z0-9](?:[ .-]?[A-Z0-9]){{5,17}})\b",
        check=_named,
    ),
)
TELLING_ID = re.compile(rf"(?:^|[^a-z]){_NAMES}$", re.IGNORECASE)
"""Names of members that hold an identity number."""
