"""DuckDB with the lake attached: extensions loaded by path, and DuckDB's errors told as ours."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from tracemill.errors import BusyError, StoreError

CATALOG = "lake"
"""The name under which the lake is attached. Views are stored with bare table names, so any other name works too."""

_BUSY_TIMEOUT_MS = 60_000


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


def attachment(root: Path, name: str, *, read_only: bool, snapshot: int | None) -> str:
    """The statement that attaches the lake at `root` under `name`, at a fixed snapshot where one is given."""
    options = [
        f"DATA_PATH {quoted(str(root / 'data') + '/')}",
        "OVERRIDE_DATA_PATH true",  # a lake that was moved or copied is still a lake
        "META_JOURNAL_MODE 'WAL'",
        f"META_BUSY_TIMEOUT {_BUSY_TIMEOUT_MS}",
    ]
    if read_only:
        options.append("READ_ONLY")
    if snapshot is not None:
        options.append(f"SNAPSHOT_VERSION {int(snapshot)}")
    uri = quoted(f"ducklake:sqlite:{root / 'catalog.sqlite'}")
    return f'ATTACH {uri} AS "{name}" ({", ".join(options)})'


def attach(con: duckdb.DuckDBPyConnection, root: Path, name: str, *, read_only: bool, snapshot: int | None) -> None:
    """Attach the lake at `root` under `name`, at a fixed snapshot where one is given."""
    con.execute(attachment(root, name, read_only=read_only, snapshot=snapshot))


def connect(root: Path, *, read_only: bool, snapshot: int | None = None) -> duckdb.DuckDBPyConnection:
    """A DuckDB instance of its own with the lake attached and in use. Its cursors need `USE` again."""
    con = duckdb.connect(
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            # Hashing 70 MB of signed binaries costs 0.26 s an instance. They come from the same site-packages as the
            # Python code that runs here, by absolute path; where a user's text runs (sql.py) nothing can be loaded.
            "allow_unsigned_extensions": True,
            "temp_directory": str(root / "tmp"),
        }
    )
    try:
        for extension in ("sqlite_scanner", "ducklake"):
            con.execute(f"LOAD {quoted(str(extension_path(extension)))}")
        con.execute("SET TimeZone = 'UTC'")
        attach(con, root, CATALOG, read_only=read_only, snapshot=snapshot)
        con.execute(f"USE {CATALOG}")
    except BaseException:
        con.close()
        raise
    return con


def cursor(con: duckdb.DuckDBPyConnection, name: str = CATALOG) -> duckdb.DuckDBPyConnection:
    """Another connection to the same instance, with `name` in use."""
    other = con.cursor()
    other.execute(f'USE "{name}"')
    return other


# Checked in this order: the words that DuckDB, SQLite and the operating system use.
_FULL = ("no space left", "disk is full", "file too large", "disk quota", "could not write all bytes", "disk i/o error")
_UNWRITABLE = ("permission denied", "readonly database", "read-only file system", "attempt to write a readonly")
_BUSY = ("database is locked",)
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


def explained(error: Exception, root: Path) -> StoreError:
    """Our error for one of DuckDB's or the operating system's."""
    text = str(error).strip()
    lower = text.lower()
    if any(words in lower for words in _FULL):
        return StoreError(
            f"the disk of the lake {root} is full or failing; nothing was written: free space and run again ({text})"
        )
    if any(words in lower for words in _UNWRITABLE):
        return StoreError(f"the lake {root} cannot be written: check the owner and mode of the folder ({text})")
    if any(words in lower for words in _BUSY):
        return BusyError(f"another program holds the catalog of the lake {root}: try again ({text})")
    if any(words in lower for words in _DAMAGED):
        return StoreError(f"the lake {root} is damaged: restore the folder from a backup ({text})")
    return StoreError(f"the lake {root} refused: {text}")


@contextmanager
def translated(root: Path) -> Iterator[None]:
    """Turns what DuckDB and the operating system raise inside into StoreErrors."""
    try:
        yield
    except (duckdb.Error, OSError) as error:
        raise explained(error, root) from error
