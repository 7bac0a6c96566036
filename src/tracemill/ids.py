"""Identity is content: hashes that name values, plain for public things and keyed for what came from logs."""

import hashlib
import hmac
import json
import re
from typing import Any

PSEUDONYM = re.compile(r"\[(CARD|EMAIL|IBAN|ID|IP|NAME|PHONE|SECRET|USER|X_[A-Z0-9_]{1,24})_[0-9a-f]{8}\]")
"""What redaction leaves in place of personal data: the kind, and a keyed hash that is equal for equal values.

Kinds that begin with `X_` are a project's own patterns.
"""


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no blanks, UTF-8 kept. NaN is refused."""
    return _CANONICAL.encode(value)


def content_id(*parts: Any) -> str:
    """128-bit hex id of JSON values (SHA-256, truncated). Equal content, equal id, on every machine."""
    return hashlib.sha256(canonical_json(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def keyed_id(key: bytes, *parts: str) -> str:
    """128-bit hex id under the lake's secret key (BLAKE2b), so ids of logged text cannot be guessed outside."""
    digest = hashlib.blake2b(key=key[:64], digest_size=16)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()


def keyed_fraction(key: bytes, *parts: str) -> float:
    """A number in [0, 1) that only the holder of the key can predict: what keyed splits are drawn with."""
    raw = "\x1f".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hmac.new(key, raw, hashlib.sha256).digest()[:8], "big") / 2**64
