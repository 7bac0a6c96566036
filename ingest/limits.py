"""How large logs may be: what is larger is quarantined instead of being held in memory."""

from dataclasses import dataclass, fields

MIB = 1024 * 1024
REPEATED = 16_000_000
"""So many messages may the prompts of one record repeat: each call of a conversation reads all that was said before it,
so that a short record of very many calls would fill the memory."""


class TooLargeError(ValueError):
    """A source, a document or a record is beyond the limits; the text says which, and which setting allows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`[limits]`: nothing larger is held in memory; it ends in quarantine. All are at least 1; ValueError otherwise."""

    record_mib: int = 64
    """One record: a line, an element of an array, a protobuf request."""
    document_mib: int = 512
    """A file that has to be read as one piece: a JSON document, a Parquet file, a session of a coding agent."""
    text_mib: int = 32
    """One text in a record, in million characters of 2^20."""
    source_gib: int = 64
    """All that one file holds after decompression."""
    ratio: int = 1000
    """How many times its size a compressed file may hold, once it holds 256 MiB: beyond lie decompression bombs."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"{field.name} must be at least 1")

    @property
    def record_bytes(self) -> int:
        return self.record_mib * MIB

    @property
    def document_bytes(self) -> int:
        return self.document_mib * MIB

    @property
    def text_chars(self) -> int:
        return self.text_mib * MIB

    def source_bytes(self, stored: int | None) -> int:
        """What a source of `stored` bytes may hold after decompression."""
        whole = self.source_gib * 1024 * MIB
        return whole if stored is None else min(whole, max(256 * MIB, stored * self.ratio))

    def record_too_large(self, size: int) -> str:
        """The reason that is shown for a record."""
        return (
            f"the record holds at least {size:,} bytes, more than the {self.record_bytes:,} that are read "
            "([limits] record_mib)"
        )
