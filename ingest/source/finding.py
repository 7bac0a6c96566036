"""From what users name (files, folders, globs, URLs) to source objects."""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from glob import iglob
from pathlib import Path
from typing import Any

from tracemill.errors import SourceError
from tracemill.ingest.source import local, remote
from tracemill.ingest.source.objects import SourceObject

_NO_OPTIONS: Mapping[str, Any] = {}


def find(
    sources: Sequence[str | Path],
    *,
    exclude: Sequence[str] = (),
    options: Mapping[str, Any] = _NO_OPTIONS,
    standing: bool = False,
) -> list[SourceObject]:
    """Every source object that `sources` name, each once, in a stable order; none of them is read.

    A source is a file, a folder (searched recursively), a glob, or an fsspec URL (s3://…, https://…) whose file system
    is made with `options`. `exclude` are globs on the URI or the file name. In folders and globs, hidden files and
    unfinished landing files (*.part) are left out. A file or folder that may not be read is an object that says why
    (`unreadable`), so that it costs only itself.

    A missing path, an empty glob and a store that cannot be asked raise SourceError. For `standing` sources, which
    are looked at again and again, it is no error that nothing is there yet, and a store that cannot be asked is an
    object that says why.
    """
    found: dict[str, SourceObject] = {}
    for source in sources:
        text = str(source)
        try:
            items = list(_behind(text, options) if "://" in text else local.listing(text))
        except SourceError as error:
            if not standing:
                raise
            if "://" not in text and not there(text):
                continue
            items = [SourceObject(uri=text, size_bytes=0, unreadable=error.reason)]
        if not items and "://" in text and not standing:
            raise SourceError(text, "there is no such object" if "*" not in text else "no object matches")
        for item in items:
            name = item.uri.rsplit("/", 1)[-1]
            if not any(fnmatch(item.uri, pattern) or fnmatch(name, pattern) for pattern in exclude):
                found.setdefault(item.uri, item)
    return list(found.values())


def there(path: str) -> bool:
    """Whether a path of this machine exists, or a glob has a match."""
    return Path(path).exists() or next(iglob(path, recursive=True), None) is not None


def reachable(source: str, options: Mapping[str, Any] = _NO_OPTIONS) -> bool:
    """Whether anything is there now; cheap, however much it is. Raises SourceError where a store cannot be asked."""
    return remote.exists(source, options) if "://" in source else there(source)


def _behind(source: str, options: Mapping[str, Any]) -> Iterator[SourceObject]:
    for found in remote.listing(source, options):
        if local.wanted(found.uri.rsplit("/", 1)[-1]):
            yield SourceObject(
                uri=found.uri,
                size_bytes=found.size_bytes,
                version=found.version,
                settled_ns=found.settled_ns,
                options=options,
            )
