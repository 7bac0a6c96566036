"""What a channel is called, and the small file that says which bundle it points to."""

import re
from collections.abc import Collection

from tracemill.errors import ConfigError
from tracemill.ids import canonical_json

POINTER = "channel.json"
STORE = "bundles"
AGENTS = "agents.json"
"""Whose prompt is which file, in a bundle with prompts of several sites."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def channel_name(channel: str) -> str:
    """The name itself where it can be a folder beside the bundles, else ConfigError."""
    if not _NAME.fullmatch(channel) or channel == STORE:
        raise ConfigError(f"{channel!r} cannot name a channel; use letters, digits, '.', '_' and '-', not {STORE!r}")
    return channel


def pointer(bundle_id: str, files: Collection[str]) -> str:
    """The text of a pointer to a bundle of these files. Its paths are relative to it: so for folders and for URLs."""
    place = f"../{STORE}/{bundle_id}"
    has_adapter = any(name.startswith("adapter/") for name in files)
    told = {
        "bundle_id": bundle_id,
        "prompt": f"{place}/prompt.json",
        "adapter": f"{place}/adapter" if has_adapter else None,
    }
    return canonical_json({**told, "agents": f"{place}/{AGENTS}"} if AGENTS in files else told)
