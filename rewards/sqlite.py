"""Queries of models on SQLite databases: read-only, bounded in time and rows, and when two results are the same."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

_ALLOWED = frozenset((sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE))
_FORBIDDEN_FUNCTIONS = frozenset(("load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"))
Rows = list[tuple[Any, ...]]


class RefusedError(Exception):
    """A query that was not allowed, that failed, or that passed a limit; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A SQLite file that never changes, whatever is asked of it."""

    path: Path
    timeout_s: float = 5.0
    max_rows: int = 100_000

    def read(self, query: str) -> Rows:
        """The rows of one query. Raises RefusedError."""
        con = sqlite3.connect(f"{self.path.as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
        deadline = perf_counter() + self.timeout_s
        try:
            con.text_factory = lambda raw: raw.decode("utf-8", "replace")
            con.set_authorizer(_authorize)
            con.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000_000)
            con.set_progress_handler(lambda: perf_counter() > deadline, 10_000)
            rows: Rows = con.execute(query).fetchmany(self.max_rows + 1)
        except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError) as error:
            raise RefusedError("it ran too long" if perf_counter() > deadline else str(error)) from error
        finally:
            con.close()
        if len(rows) > self.max_rows:
            raise RefusedError(f"it gives more than {self.max_rows} rows")
        return rows

    def schema(self) -> str:
        """The statements that made its tables. Raises RefusedError."""
        return "\n".join(str(sql) for (sql,) in self.read("select sql from sqlite_master where type = 'table'") if sql)


def same(found: Sequence[tuple[Any, ...]], expected: Sequence[tuple[Any, ...]]) -> bool:
    """Whether two results have the same rows, each as often: columns in order, rows in any, floats to nine digits."""
    return Counter(map(_comparable, found)) == Counter(map(_comparable, expected))


def reward(database: Database, query: str | None, expected: Sequence[tuple[Any, ...]]) -> float:
    """1 where the query gives what is expected; 0 for any other result, for a refused query, and for none."""
    if query is None:
        return 0.0
    try:
        return float(same(database.read(query), expected))
    except RefusedError:
        return 0.0


def _authorize(action: int, first: str | None, second: str | None, *_: Any) -> int:
    if action not in _ALLOWED or (action == sqlite3.SQLITE_FUNCTION and second in _FORBIDDEN_FUNCTIONS):
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def _comparable(row: Iterable[Any]) -> tuple[Any, ...]:
    """Sums in another order are the same answer."""
    return tuple(float(f"{value:.9g}") if isinstance(value, float) else value for value in row)
