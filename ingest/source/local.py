"""Files of this machine: single ones, folders searched through, globs."""

import os
import stat
from collections.abc import Iterator
from glob import glob, has_magic
from pathlib import Path

from tracemill.errors import SourceError
from tracemill.ingest.source.objects import SourceObject
from tracemill.ingest.source.remote import reason

UNFINISHED = ".part"
"""Files that the collector still writes; they are renamed when they are whole."""
_COARSE_NS = 2_000_000_000
"""How long two states of a file may share their times, on the coarsest file systems."""


def listing(source: str) -> Iterator[SourceObject]:
    """The files that a path, a folder or a glob names, in order. SourceError where nothing is there."""
    path = Path(source).expanduser()
    try:
        if has_magic(source) and not path.exists():
            matches = sorted(glob(str(path), recursive=True))
            if not matches:
                raise SourceError(source, "the pattern matches no file")
            for match in matches:
                if os.path.isfile(match) and wanted(os.path.basename(match)):
                    yield _file(match)
        elif path.is_dir():
            shut: list[SourceObject] = []
            for folder, folders, files in os.walk(path, onerror=lambda error: shut.append(_shut(error, str(path)))):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                for name in sorted(files):
                    if wanted(name):
                        yield _file(os.path.join(folder, name))
            yield from shut
        elif path.exists():
            if path.name.endswith(UNFINISHED):
                raise SourceError(str(path), "the collector still writes this file; take in the finished ones")
            yield _file(str(path))
        else:
            raise SourceError(source, "there is no such file or folder")
    except OSError as error:
        raise SourceError(str(error.filename or source), reason(error)) from error


def wanted(name: str) -> bool:
    """Whether a file of this name in a folder is a log: hidden and unfinished ones are not."""
    return not name.startswith(".") and not name.endswith(UNFINISHED)


def _file(path: str) -> SourceObject:
    path = os.path.abspath(path)
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):  # a pipe would be waited for, and gives its bytes only once
            return SourceObject(uri=path, size_bytes=0, unreadable="it is a pipe, a socket or a device, not a file")
        # Permissions are checked now, before anything is taken in.
        if not os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
            raise PermissionError(0, "permission denied", path)
    except OSError as error:
        return _shut(error, path)
    # The time of the last change of the inode tells what a tool that sets the other time hides.
    state = (about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino, about.st_dev)
    return SourceObject(
        uri=path,
        size_bytes=about.st_size,
        version=" ".join(map(str, state)),
        settled_ns=max(about.st_mtime_ns, about.st_ctime_ns) + _COARSE_NS,
    )


def _shut(error: OSError, path: str) -> SourceObject:
    uri = os.path.abspath(error.filename or path)
    return SourceObject(uri=uri, size_bytes=0, unreadable=reason(error))
