"""Bundles in a folder that agents read directly, over a network share, or through any static web server.

<root>/bundles/<bundle id>/…     never changes once it is there
<root>/<channel>/channel.json    {"bundle_id": …, "prompt": "../bundles/<id>/prompt.json", "adapter": …}
"""

import json
import secrets
import shutil
from pathlib import Path

from tracemill.errors import PublishError
from tracemill.promote.bundle import read_manifest, replace_text, settle, verify
from tracemill.promote.pointer import POINTER, STORE, channel_name, pointer


class Folder:
    """A folder on this machine or a mounted one."""

    name = "folder"

    def __init__(self, *, root: str | Path) -> None:
        self.root = Path(root)

    def publish(self, bundle: Path, bundle_id: str, channel: str) -> str:
        self.stage(bundle, bundle_id)
        return self.move(bundle_id, channel)

    def stage(self, bundle: Path, bundle_id: str) -> None:
        if verify(bundle) != bundle_id:
            raise PublishError(f"bundle {bundle} is not {bundle_id}")
        store = self.root / STORE
        target = store / bundle_id
        draft = store / f".draft-{secrets.token_hex(8)}"
        try:
            if not target.exists():
                store.mkdir(parents=True, exist_ok=True)
                shutil.copytree(bundle, draft, copy_function=shutil.copyfile)
                settle(draft, target)
        except OSError as error:
            raise PublishError(f"folder {store}: {error}") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        verify(target)

    def move(self, bundle_id: str, channel: str) -> str:
        place = self.root / channel_name(channel)
        target = self.root / STORE / bundle_id
        files = read_manifest(target)["files"]
        try:
            place.mkdir(parents=True, exist_ok=True)
            replace_text(place / POINTER, pointer(bundle_id, files))
        except OSError as error:
            raise PublishError(f"channel {place}: {error}") from error
        return str(place)

    def current(self, channel: str) -> str | None:
        path = self.root / channel_name(channel) / POINTER
        try:
            return str(json.loads(path.read_text(encoding="utf-8"))["bundle_id"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError) as error:
            raise PublishError(f"channel pointer {path} cannot be read: {error!r}") from error
