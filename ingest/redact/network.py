"""IP addresses, and what looks like one but is a version, a section number or a time."""

import ipaddress
import re

from tracemill.ingest.redact.rules import Rule, Span

_GROUP = "[0-9A-Fa-f]{1,4}"
_VERSION = re.compile(
    rb"(?:\b(?:v|ver|version|release|rev(?:ision)?|build|section|sec|chapter|clause|figure|fig|table|step|appendix|"
    rb"schema|firmware|driver|engine|kernel|sdk|api|rfc|iso|patch|update|upgraded? (?:to|from)|python|node|java|"
    rb"chrome|chromium|edge|safari|firefox|opera|webkit)[ _.:#=/\"'\\-]{0,6}(?:is |to |number )?|"
    rb"\xc2\xa7 ?|[=~<>!]= ?|[~^]|[a-z0-9)]@|(?:^|[^/.a-z0-9])[a-z][a-z0-9_.+]{0,40}[-/_])$",
    re.IGNORECASE,
)
_FROM = re.compile(
    rb"(?:\bfrom|[a-z_]*(?:ip|addr|address|host|server|client|peer|bind|url|remote)[a-z_]*[\"'\\]* ?[=:]=? ?[\"'\\]*)$",
    re.IGNORECASE,
)
_AFTER_VERSION = re.compile(
    rb"[-+](?:rc|alpha|beta|dev|pre|post|snapshot|final|release|[0-9]+\.)|\.(?:dev|post|tar|zip|whl|jar|so)", re.I
)


def _v4(data: bytes, start: int, end: int) -> Span | None:
    """A dotted quad that names a host somewhere: no loopback, no mask, no version, no section."""
    written = data[start:end].split(b".")
    parts = list(map(int, written))
    if max(parts) > 255 or any(len(part) > 1 and part[:1] == b"0" for part in written):
        return None
    if parts[0] in (0, 127) or parts[0] >= 224:
        return None
    before, after = data[max(0, start - 48) : start], data[end : end + 9]
    if before[-1:] in (b".", b"-") and before[-2:-1].isalnum():
        return None
    if not before and not after:
        return start, end
    if (after[:1] in (b".", b"_") and after[1:2].isalnum()) or _AFTER_VERSION.match(after):
        return None
    if _FROM.search(before.rstrip()):
        return start, end
    return None if _VERSION.search(before) else (start, end)


def _v6(data: bytes, start: int, end: int) -> Span | None:
    """A valid IPv6 address of a host; no time, no MAC address, no name of C++."""
    piece = data[start:end].rstrip(b".")
    if piece.endswith(b":") and not piece.endswith(b"::"):
        piece = piece[:-1]
    end = start + len(piece)
    if data[max(0, start - 1) : start].isalnum() or data[end : end + 1].isalnum():
        return None
    try:
        address = ipaddress.IPv6Address(piece.decode())
    except ValueError:
        return None
    groups = [group for group in piece.split(b":") if group]
    if address.is_loopback or address.is_unspecified or (len(groups) < 3 and len(groups[0]) < 4):
        return None
    if len(groups) == 8 and all(len(group) <= 2 for group in groups):
        return None  # a fingerprint or eight bytes in hex
    return start, end


def canonical(text: str) -> str:
    """The one writing of an address."""
    if ":" not in text:
        return text  # four numbers have no other
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text


IP = (
    Rule(kind="IP", pattern=r"\b[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\b", check=_v4),
    Rule(
        kind="IP",
        pattern=rf"\b(?:{_GROUP}:){{7}}{_GROUP}\b|\b(?:{_GROUP}:){{6}}[0-9]{{1,3}}(?:\.[0-9]{{1,3}}){{3}}\b|"
        rf"(?:\b{_GROUP}(?::{_GROUP}){{0,6}})?::(?:{_GROUP}(?::{_GROUP}){{0,6}})?(?:[:.][0-9]{{1,3}}(?:\.[0-9]{{1,3}}){{2,3}})?",
        check=_v6,
        whole=True,
    ),
)
