"""What lies behind a URL, through fsspec: listed with what the store says of each object, and read.

Stores fail in their own words; `failures` and `reason` are the one place that translates them.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from glob import has_magic
from typing import Any

import fsspec

from tracemill.errors import ConfigError, SourceError

_BLOCK_BYTES = 8 * 1024 * 1024
_COARSE_NS = 60_000_000_000
"""Where a store tells a time instead of a tag: how long two states may share it, clocks that differ included."""
_TAGS = ("ETag", "etag", "generation", "md5Hash", "Content-MD5", "Digest")
_TIMES = ("LastModified", "last_modified", "Last-Modified", "updated", "mtime", "modified")
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "http": "http", "https": "http"} | dict.fromkeys(
    ("abfs", "abfss", "az", "adl"), "azure"
)
"""Protocol → the extra of tracemill that brings its file system."""
_WITH_BUCKETS = ("s3", "s3a", "gs", "gcs")
_NO_BUCKET = "there is no such bucket; check its name, and AWS_ENDPOINT_URL where it is not at AWS"
_FOREIGN = (
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("aiohttp", "ClientError"),
    ("azure.core.exceptions", "AzureError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("gcsfs.retry", "HttpError"),
)
"""What file systems let through although it is no OSError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An object in a listing."""

    uri: str
    size_bytes: int
    version: str | None
    settled_ns: int


def listing(source: str, options: Mapping[str, Any]) -> Iterator[Found]:
    """The objects that a URL names (one, a folder, a glob), in the order of their names; none where nothing is there.

    Stores are listed page by page; nothing is asked of the single object, except by HTTP, whose folders tell nothing.
    Raises SourceError where the store cannot be asked.
    """
    try:
        fs, path = _file_system(source, options)
        fs.invalidate_cache()  # a file system that this process used before remembers what was there then
        web = source.startswith(("http://", "https://"))
        for name, info in sorted(_infos(fs, path, web=web).items()):
            if info.get("type") == "directory" or (web and "?" in name and name != path):
                continue
            known = fs.info(name) if web and info.get("size") is None else info
            version, settled_ns = _version(known)
            uri = fs.unstrip_protocol(name)
            yield Found(uri=uri, size_bytes=int(known.get("size") or 0), version=version, settled_ns=settled_ns)
    except TypeError as error:
        raise _misfit(source, options, error) from error
    except failures(ValueError) as error:
        raise SourceError(source, reason(error)) from error


def exists(source: str, options: Mapping[str, Any]) -> bool:
    """Whether anything is there, without a listing; of a glob, the folder that it begins in. Raises SourceError."""
    try:
        fs, path = _file_system(source, options)
        fs.invalidate_cache()
        steps = path.split("/")
        plain = next((at for at, step in enumerate(steps) if has_magic(step)), len(steps))
        if fs.exists("/".join(steps[:plain])):
            return True
        if source.split("://", 1)[0] in _WITH_BUCKETS and not fs.exists(steps[0]):
            raise SourceError(source, _NO_BUCKET)
        return False
    except TypeError as error:
        raise _misfit(source, options, error) from error
    except failures(ValueError) as error:
        raise SourceError(source, reason(error)) from error


def open(uri: str, options: Mapping[str, Any]) -> Any:
    """The object's bytes, to be read from the beginning to the end."""
    fs, path = _file_system(uri, options)
    if uri.startswith(("http://", "https://")):
        return fs.open(path, "rb", block_size=0)  # one request: between two a page may change
    return fs.open(path, "rb", block_size=_BLOCK_BYTES)


def failures(*also: type[Exception]) -> tuple[type[Exception], ...]:
    """The errors of the file systems that are loaded."""
    kinds: list[type[Exception]] = [OSError, *also]
    for module, name in _FOREIGN:
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None:
            kinds.append(kind)
    return tuple(kinds)


def reason(error: Exception) -> str:
    """What went wrong in one line, and what to do where that is known."""
    kind = type(error).__name__
    said = " ".join(str(getattr(error, "strerror", None) or error).split())
    if "bucket does not exist" in said:
        return _NO_BUCKET
    if kind in ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "CredentialRetrievalError"):
        return (
            f"no credentials ({said}); give them as the store's own tools take them (environment, profile, role), "
            "or options = { anon = true } for what is public"
        )
    if isinstance(error, PermissionError):
        if error.errno is None or not error.filename:
            return f"access denied ({said}); these credentials may not read it" if said else "access denied"
        return "permission denied; make it readable for this user"
    if isinstance(error, FileNotFoundError):
        cause = error.__cause__  # web file systems say this of everything that goes wrong
        if isinstance(cause, Exception) and getattr(cause, "status", 0) != 404:
            return reason(cause)
        return "there is no such file or folder"
    if isinstance(status := getattr(error, "status", None), int):
        return f"the server answered {status} {getattr(error, 'message', '')}".rstrip()
    if isinstance(error, TimeoutError) or "Timeout" in kind:
        return f"it did not answer in time{f' ({said})' if said else ''}; it is tried again with the next call"
    if kind == "FileExpired":
        return "it changed while it was read; it is tried again with the next call"
    return said or kind


def _file_system(source: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    protocol = source.split("://", 1)[0]
    try:
        fs, path = fsspec.core.url_to_fs(source, **options)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        how = f"pip install 'tracemill[{extra}]'" if extra else str(error)
        raise SourceError(source, f"reading {protocol}:// needs another package: {how}") from error
    return fs, path


def _misfit(source: str, options: Mapping[str, Any], error: TypeError) -> Exception:
    """Some file systems look at their options when they are first used."""
    if not options:
        return error
    return ConfigError(f"{source}: the options {', '.join(options)} do not fit: {' '.join(str(error).split())}")


def _infos(fs: Any, path: str, *, web: bool) -> dict[str, Any]:
    # A question mark belongs to a web address.
    if has_magic(path.replace("?", "") if web else path):
        return dict(fs.glob(path, detail=True))
    if web:
        if path.endswith("/"):
            try:
                fs.ls(path, detail=False)  # raises where nobody answers; the walk below passes over that
            except FileNotFoundError:
                return {}
        return dict(fs.find(path, detail=True)) if path.endswith("/") else {path: fs.info(path)}
    if fs.isfile(path):
        return {path: fs.info(path)}
    return dict(fs.find(path, detail=True))


def _version(info: Mapping[str, Any]) -> tuple[str | None, int]:
    """What tells this state of an object from others, and until when that is not certain."""
    tag = next((str(info[name]) for name in _TAGS if info.get(name)), None)
    size = info.get("size")
    if tag is not None and not tag.startswith("W/"):
        return f"{tag} {size}", 0
    at = next((when for name in _TIMES if (when := _time_ns(info.get(name))) is not None), None)
    if at is None or size is None:
        return None, 0
    return f"{tag or ''} {at} {size}", at + _COARSE_NS


def _time_ns(value: Any) -> int | None:
    if isinstance(value, str):
        try:
            value = parsedate_to_datetime(value) if "," in value else datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return int(value * 1e9) if isinstance(value, int | float) else None
