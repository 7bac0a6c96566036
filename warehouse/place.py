"""Where a lake lies: in one folder, or with its catalog in PostgreSQL and its data in an object store."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracemill.errors import without_credentials

_POSTGRES = "postgres:"
_S3 = "s3://"
_PASSWORD = re.compile(r"\bpassword\s*=\s*('[^']*'|\S+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Raises ValueError on a catalog or a place of data that is of no known kind, or holds a password."""

    root: Path
    """Folder of this machine: key, lock and temporary files, and what is not said to be elsewhere."""
    catalog: str | None = None
    """`postgres:` and a libpq connection string or URL; None: SQLite in the folder."""
    data: str | None = None
    """`s3://bucket/prefix`, or a folder that all machines share; None: in the folder."""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Of the object store: endpoint_url. Credentials come from the environment, as the store's own tools take them."""

    def __post_init__(self) -> None:
        if self.catalog is not None and not self.catalog.startswith(_POSTGRES):
            raise ValueError(f"catalog: {without_credentials(self.catalog)!r} does not begin with {_POSTGRES}")
        if self.catalog is not None and hidden(self.catalog) != self.catalog:
            raise ValueError("catalog: a password does not belong here: put it into PGPASSWORD or ~/.pgpass")
        if self.data is not None and "://" in self.data and not self.data.startswith(_S3):
            raise ValueError(f"data: {without_credentials(self.data)!r} is neither {_S3}… nor a folder")
        unknown = sorted(set(self.options) - {"endpoint_url", "region"})
        if unknown:
            raise ValueError(f"options: unknown {', '.join(unknown)}; known: endpoint_url, region")

    def __str__(self) -> str:
        return str(self.root) if self.catalog is None else f"{self.root} ({_shown(self.catalog)})"

    @property
    def database(self) -> str | None:
        """The connection string of the catalog's database; None where it is SQLite."""
        return None if self.catalog is None else self.catalog.removeprefix(_POSTGRES)

    @property
    def sqlite(self) -> Path:
        """The catalog where there is no database."""
        return self.root / "catalog.sqlite"

    @property
    def data_url(self) -> str:
        """What all data files lie under, with a slash at its end."""
        given = str(self.root / "data") if self.data is None else self.data
        return given.rstrip("/") + "/"

    @property
    def local_data(self) -> Path | None:
        """The folder of the data; None where it is no folder."""
        return None if self.data_url.startswith(_S3) else Path(self.data_url)

    @property
    def store_options(self) -> Mapping[str, Any]:
        """What the fsspec file system of the data is made with."""
        if self.local_data is not None:
            return {}
        given = dict(self.options)
        region = given.pop("region", None)
        return given | ({"client_kwargs": {"region_name": region}} if region else {})


def located(where: Place | Path) -> Place:
    """A folder as the place of a lake that lies in it."""
    return where if isinstance(where, Place) else Place(root=Path(where).absolute())


def _shown(catalog: str) -> str:
    return hidden(catalog).split("?")[0]


def hidden(text: str) -> str:
    """The text without the passwords of connection strings."""
    return _PASSWORD.sub("password=…", without_credentials(text))
