"""DuckDB with the lake attached: extensions loaded by path, and DuckDB's errors told as ours."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import duckdb

from tracemill.errors import BusyError, ConflictError, MissingExtraError, StoreError
from tracemill.warehouse.place import Place, hidden, located

CATALOG = "lake"
"""The name under which the lake is attached. Views are stored with bare table names, so any other name works too."""

DATABASE = "catalog_database"
"""The name under which `database` attaches the database of a shared catalog."""

T = TypeVar("T")

_BUSY_TIMEOUT_MS = 60_000
_LITTLE = ("192MiB", "512MiB")
"""What whole tables are sorted and joined in, and what is tried after that: a night's memory must not grow with its
logs."""


def extension_path(name: str) -> Path:
    """The extension binary that the wheel of the running DuckDB version brought. Raises StoreError where none did."""
    package = f"duckdb_extension_{name}"
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
        if path.is_file():
            return path
    wheel = package.replace("_", "-")
    raise StoreError(
        f"DuckDB {duckdb.__version__} has no {name} extension here: pip install 'duckdb==1.5.5' '{wheel}==1.5.5'"
    )


def quoted(text: str) -> str:
    """A SQL string literal, for the few places that take no parameters."""
    return "'" + text.replace("'", "''") + "'"


def attachment(place: Place, name: str, *, read_only: bool, snapshot: int | None) -> str:
    """The statement that attaches the lake under `name`, at a fixed snapshot where one is given."""
    options = [
        f"DATA_PATH {quoted(place.data_url)}",
        "OVERRIDE_DATA_PATH true",  # a lake that was moved or copied is still a lake
    ]
    if place.database is None:
        options += ["META_JOURNAL_MODE 'WAL'", f"META_BUSY_TIMEOUT {_BUSY_TIMEOUT_MS}"]
    if read_only:
        options.append("READ_ONLY")
    if snapshot is not None:
        options.append(f"SNAPSHOT_VERSION {int(snapshot)}")
    kind = f"sqlite:{place.sqlite}" if place.database is None else f"postgres:{place.database}"
    return f'ATTACH {quoted(f"ducklake:{kind}")} AS "{name}" ({", ".join(options)})'


def attach(
    con: duckdb.DuckDBPyConnection, where: Place | Path, name: str, *, read_only: bool, snapshot: int | None
) -> None:
    """Attach the lake under `name`, at a fixed snapshot where one is given."""
    con.execute(attachment(located(where), name, read_only=read_only, snapshot=snapshot))


def extensions(place: Place) -> tuple[str, ...]:
    """What DuckDB needs to read and write the lake."""
    catalog = "sqlite_scanner" if place.database is None else "postgres_scanner"
    return (catalog, "ducklake") if place.local_data is not None else (catalog, "ducklake", "httpfs")


def connect(where: Place | Path, *, read_only: bool, snapshot: int | None = None) -> duckdb.DuckDBPyConnection:
    """A DuckDB instance of its own with the lake attached and in use. Its cursors need `USE` again."""
    place = located(where)
    con = _instance(place, *extensions(place))
    try:
        con.execute("SET TimeZone = 'UTC'")
        if not read_only:
            # A batch is small: on a second thread DuckDB spends more than it saves, and every thread buffers rows of
            # its own. Ingest grows by processes.
            con.execute("SET threads = 1")
        if (access := _access(place)) is not None:
            con.execute(access)
        attach(con, place, CATALOG, read_only=read_only, snapshot=snapshot)
        con.execute(f"USE {CATALOG}")
    except BaseException:
        con.close()
        raise
    return con


def _access(place: Place) -> str | None:
    """The statement that lets DuckDB read and write the data; None where it lies in a folder.

    Raises MissingExtraError where boto is not installed, StoreError where it finds no credentials.
    """
    if place.local_data is not None:
        return None
    try:
        from botocore.session import Session  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise MissingExtraError("s3", f"the lake's data at {place.data_url}") from error
    session = Session()
    found = session.get_credentials()
    if found is None:
        raise StoreError(f"no credentials for {place.data_url}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    keys = found.get_frozen_credentials()
    said = {
        "KEY_ID": keys.access_key,
        "SECRET": keys.secret_key,
        "SESSION_TOKEN": keys.token,
        "REGION": place.options.get("region") or session.get_config_variable("region") or "us-east-1",
        "SCOPE": place.data_url,
    }
    endpoint = place.options.get("endpoint_url")
    parts = [f"{name} {quoted(value)}" for name, value in said.items() if value]
    if endpoint:
        scheme, _, host = str(endpoint).partition("://")
        parts += [f"ENDPOINT {quoted(host.rstrip('/'))}", "URL_STYLE 'path'", f"USE_SSL {scheme != 'http'}".lower()]
    return f"CREATE SECRET lake_data (TYPE s3, {', '.join(parts)})"


def database(place: Place) -> duckdb.DuckDBPyConnection:
    """A DuckDB instance of its own with the database of the shared catalog attached as DATABASE."""
    con = _instance(place, "postgres_scanner")
    try:
        con.execute(f"ATTACH {quoted(place.database or '')} AS {DATABASE} (TYPE postgres)")
    except BaseException:
        con.close()
        raise
    return con


def _instance(place: Place, *needed: str) -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            # Hashing 70 MB of signed binaries costs 0.26 s an instance. They come from the same site-packages as the
            # Python code that runs here, by absolute path; where a user's text runs (sql.py) nothing can be loaded.
            "allow_unsigned_extensions": True,
            "temp_directory": str(place.root / "tmp"),
        }
    )
    try:
        for extension in needed:
            con.execute(f"LOAD {quoted(str(extension_path(extension)))}")
    except BaseException:
        con.close()
        raise
    return con


def cursor(con: duckdb.DuckDBPyConnection, name: str = CATALOG) -> duckdb.DuckDBPyConnection:
    """Another connection to the same instance, with `name` in use."""
    other = con.cursor()
    other.execute(f'USE "{name}"')
    return other


def sparingly(con: duckdb.DuckDBPyConnection, work: Callable[[], T]) -> T:
    """What `work` gives, done on one thread in little memory, the rest on disk: for sorting and joining all there is.

    Where that little is not enough (rows of many megabytes), it is done again with more, and then with all that DuckDB
    may take. Other connections to the instance are bounded meanwhile, too.
    """
    (threads,) = con.execute("SELECT current_setting('threads')").fetchone() or (1,)
    try:
        for little in _LITTLE:
            with suppress(duckdb.OutOfMemoryException):
                con.execute(f"SET memory_limit = '{little}'; SET threads = 1")
                return work()
    finally:
        with suppress(duckdb.Error):  # what it raised says more
            con.execute(f"RESET memory_limit; SET threads = {threads}")
    return work()


# Checked in this order: the words that DuckDB, SQLite and the operating system use.
_FULL = ("no space left", "disk is full", "file too large", "disk quota", "could not write all bytes", "disk i/o error")
_UNWRITABLE = ("permission denied", "readonly database", "read-only file system", "attempt to write a readonly")
_BUSY = ("database is locked",)
_CONFLICT = (
    "transaction conflict",
    "conflict",
    "could not serialize",
    "deadlock detected",
    "failed to commit ducklake transaction",
)
_AWAY = (
    "unable to connect",
    "connection to server",
    "server closed the connection",
    "terminating connection",
    "connection refused",
    "could not connect",
    "ssl connection has been closed",
)
_DAMAGED = (
    "not a database",
    "malformed",
    "magic bytes",
    "corrupt",
    "no such file",
    "unable to open database",
    "existing ducklake",
    "could not read",
    "too small to be a parquet",
    "no such table",
)


def told(error: Exception) -> str:
    """What DuckDB, a database or the operating system says, without passwords."""
    return hidden(str(error).strip())


def explained(error: Exception, where: Place | Path) -> StoreError:
    """Our error for one of DuckDB's or the operating system's."""
    place = located(where)
    text = told(error)
    lower = text.lower()
    if any(words in lower for words in _FULL):
        return StoreError(
            f"the disk of the lake {place} is full or failing; nothing was written: free space and run again ({text})"
        )
    if any(words in lower for words in _UNWRITABLE):
        return StoreError(f"the lake {place} cannot be written: check the owner and mode of the folder ({text})")
    if any(words in lower for words in _BUSY):
        return BusyError(f"another program holds the catalog of the lake {place}: try again ({text})")
    if place.database is not None and any(words in lower for words in _CONFLICT):
        return ConflictError(f"another writer of the lake {place} was faster: try again ({text})")
    if place.database is not None and any(words in lower for words in _AWAY):
        return ConflictError(f"the database of the lake {place} does not answer: is it up? ({text})")
    if any(words in lower for words in _DAMAGED):
        return StoreError(f"the lake {place} is damaged: restore the folder from a backup ({text})")
    return StoreError(f"the lake {place} refused: {text}")


def is_full(error: BaseException) -> bool:
    """Whether it says that there is no room left, translated or not."""
    return any(words in str(error).lower() for words in _FULL)


@contextmanager
def translated(where: Place | Path) -> Iterator[None]:
    """Turns what DuckDB and the operating system raise inside into StoreErrors."""
    try:
        yield
    except (duckdb.Error, OSError) as error:
        raise explained(error, where) from error
