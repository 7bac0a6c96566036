"""Bundles in an object store, or wherever fsspec writes: s3://…, gs://…, abfs://…, memory://….

Same layout as the folder publisher. An object appears whole or not at all, so the pointer, put last, moves at once.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec

from tracemill.errors import ConfigError, PublishError
from tracemill.promote.bundle import MANIFEST, verify
from tracemill.promote.pointer import POINTER, STORE, channel_name, pointer


class Url:
    """A prefix of an fsspec file system; `storage_options` go to it unchanged (keys, endpoint_url, …)."""

    name = "url"

    def __init__(self, *, url: str, storage_options: Mapping[str, Any] | None = None) -> None:
        scheme = url.partition("://")[0] if "://" in url else "file"
        if scheme in ("file", "local"):
            raise ConfigError(f"{url} is a local path, where writing is not atomic; use the publisher 'folder' for it")
        self.url = url.rstrip("/")
        try:
            self._fs, self._root = fsspec.core.url_to_fs(self.url, **(storage_options or {}))
        except (ValueError, ImportError) as error:
            raise ConfigError(f"publisher url {url}: {error}") from error

    def publish(self, bundle: Path, bundle_id: str, channel: str) -> str:
        self.stage(bundle, bundle_id)
        return self.move(bundle_id, channel)

    def stage(self, bundle: Path, bundle_id: str) -> None:
        if verify(bundle) != bundle_id:
            raise PublishError(f"bundle {bundle} is not {bundle_id}")
        target = f"{self._root}/{STORE}/{bundle_id}"
        names = sorted(path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file())
        try:
            # The manifest comes last: where it is, everything is.
            if self._read(f"{target}/{MANIFEST}") is None:
                for name in sorted(names, key=lambda name: name == MANIFEST):
                    self._fs.makedirs(f"{target}/{name}".rpartition("/")[0], exist_ok=True)
                    self._fs.put_file(str(bundle / name), f"{target}/{name}")
            for name in names:
                there, here = self._fs.size(f"{target}/{name}"), (bundle / name).stat().st_size
                if there != here:
                    raise PublishError(f"{self.url}/{STORE}/{bundle_id}/{name} has {there} bytes there and {here} here")
        except (OSError, NotImplementedError) as error:
            raise PublishError(f"{self.url}: cannot write bundle {bundle_id}: {error!r}") from error

    def move(self, bundle_id: str, channel: str) -> str:
        place = f"{self._root}/{channel_name(channel)}"
        try:
            manifest = self._read(f"{self._root}/{STORE}/{bundle_id}/{MANIFEST}")
            if manifest is None:
                raise PublishError(f"{self.url} does not hold bundle {bundle_id}; stage it first")
            files = json.loads(manifest)["files"]
            self._fs.makedirs(place, exist_ok=True)
            self._fs.pipe_file(f"{place}/{POINTER}", pointer(bundle_id, files).encode())
        except (OSError, NotImplementedError, ValueError) as error:
            raise PublishError(f"{self.url}/{channel}: cannot move the channel: {error!r}") from error
        return f"{self.url}/{channel}"

    def current(self, channel: str) -> str | None:
        try:
            text = self._read(f"{self._root}/{channel_name(channel)}/{POINTER}")
            return None if text is None else str(json.loads(text)["bundle_id"])
        except (OSError, ValueError, KeyError) as error:
            raise PublishError(f"{self.url}/{channel}/{POINTER} cannot be read: {error!r}") from error

    def _read(self, path: str) -> bytes | None:
        try:
            self._fs.invalidate_cache()  # another process may have moved the channel
            data: bytes = self._fs.cat_file(path)
        except FileNotFoundError:
            return None
        return data
