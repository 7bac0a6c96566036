"""What a channel is called, and the small file that says which bundle it points to."""

import re

from tracemill.errors import ConfigError
from tracemill.ids import canonical_json

POINTER = "channel.json"
STORE = "bundles"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def channel_name(channel: str) -> str:
    """The name itself where it can be a folder beside the bundles, else ConfigError."""
    if not _NAME.fullmatch(channel) or channel == STORE:
        raise ConfigError(f"{channel!r} cannot name a channel; use letters, digits, '.', '_' and '-', not {STORE!r}")
    return channel


def pointer(bundle_id: str, *, has_adapter: bool) -> str:
    """The text of a pointer. Its paths are relative to it, so they hold for folders and for URLs."""
    return canonical_json(
        {
            "bundle_id": bundle_id,
            "prompt": f"../{STORE}/{bundle_id}/prompt.json",
            "adapter": f"../{STORE}/{bundle_id}/adapter" if has_adapter else None,
        }
    )
