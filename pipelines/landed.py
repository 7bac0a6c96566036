"""The landing folder between collector and lake: what a dead collector left is handed over, what was taken in goes.

Files that are being written end in `.part` and are locked by their writer; without the suffix they are whole and never
change. Only files with the collector's names are touched.
"""

import fcntl
import os
import re
from collections.abc import Sequence
from pathlib import Path

from tracemill import ingest
from tracemill.pipelines.night import Night

UNFINISHED = ".part"
_DAY_NS = 86_400_000_000_000
_OURS = re.compile(r"\d{16,}-\d+-\d{4,}\.(traces|logs)\.(jsonl|otlp\.pb)")


def take_over(folder: Path) -> list[Path]:
    """Finishes what killed collectors left; files of running ones are locked and stay. Raises OSError."""
    finished = []
    for path in sorted(folder.glob(f"*{UNFINISHED}")):
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            continue  # its writer was just done with it
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_at(path, descriptor):
                os.fsync(descriptor)
                finish(path, os.fstat(descriptor).st_size)
                finished.append(path)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
    return finished


def is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file still stands under its name: another process may have finished it before it was locked."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def finish(path: Path, size: int) -> None:
    """Gives a whole file to ingest; one without content goes."""
    if size == 0:
        path.unlink()
    else:
        path.rename(path.with_name(path.name.removesuffix(UNFINISHED)))
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes names durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def clear(night: Night, objects: Sequence[ingest.SourceObject]) -> list[str]:
    """Deletes those of `objects` that the collector wrote and the lake holds: they hold what redaction took out.

    A file of which a record was refused stays for `[collect] keep_refused_days`: of what was refused, the lake holds
    only a redacted excerpt. With `[redaction] keep_landing` all stay. Returns the paths deleted.
    """
    config = night.config
    if config.redaction.keep_landing:
        return []
    ours = [
        one
        for one in objects
        if one.unreadable is None
        and Path(one.uri).parent == config.landing_path
        and _OURS.fullmatch(one.name) is not None
    ]
    if not ours:
        return []
    kept_ns = int(config.collect.keep_refused_days * _DAY_NS)
    done = night.select(
        "SELECT DISTINCT content_hash FROM ingest_log WHERE n_quarantined = 0 OR ? = 0 OR ingested_at <= ?",
        kept_ns,
        night.clock() - kept_ns,
    )
    taken = set(done["content_hash"].to_pylist())
    deleted = [one.uri for one in ours if os.path.exists(one.uri) and one.content_hash in taken]
    for uri in deleted:
        Path(uri).unlink(missing_ok=True)
    return deleted
