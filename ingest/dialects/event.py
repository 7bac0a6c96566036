"""A span event, decoded."""

from typing import Any

import msgspec


class Event(msgspec.Struct, kw_only=True):
    name: str
    attributes: dict[str, Any]
    time_ns: int | None = None

    def plain(self) -> dict[str, Any]:
        return {"name": self.name, "time_unix_nano": self.time_ns, "attributes": self.attributes}
