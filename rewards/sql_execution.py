"""The SQL-execution verifier: the output is a query that gives what the gold query gives, tried on a real database."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracemill.errors import ConfigError
from tracemill.ids import content_id
from tracemill.records import Case
from tracemill.rewards import sqlite
from tracemill.rewards.code import code

_FENCE = re.compile(
    r"```[ \t]*(?:(?:sqlite|sql|mysql|postgresql|postgres)\b)?[ \t]*\n?(.*?)```", re.DOTALL | re.IGNORECASE
)
_EXECUTE = re.compile(r"execute\[(.*)\]", re.DOTALL | re.IGNORECASE)
_QUERY = re.compile(r"\b(?:select|with)\b.*", re.DOTALL | re.IGNORECASE)
_FIELD = re.compile(r"\{(\w+)\}")


def extract_sql(output: str) -> str | None:
    """The query in a model's output: what `execute[…]` or the last code fence holds, else from SELECT or WITH on."""
    if hit := _EXECUTE.search(output):
        return hit.group(1).strip() or None
    if fences := _FENCE.findall(output):
        return fences[-1].strip() or None
    hit = _QUERY.search(output)
    return hit.group().strip() if hit else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlExecution:
    """1 where the output's query returns the same rows as the gold query (as a multiset, columns in order), else 0.

    `database` is a path, absolute or under `root`, with task attributes in braces (`databases/{db}.sqlite`); whatever a
    task says, it stays inside the folder before the first brace. `gold` is the attribute that holds the gold query.
    None where the case has no gold query or database, or where the gold query fails, returns nothing (every wrong query
    without rows would look right), runs too long or returns more than `max_rows` rows. An output without a query, or
    whose query fails, writes, attaches or runs too long, gets 0. Databases are opened read-only and never change.
    """

    root: Path
    database: str
    gold: str = "gold"
    name: str = "sql_execution"
    timeout_s: float = 5.0
    max_rows: int = 100_000

    def __post_init__(self) -> None:
        if self.timeout_s <= 0 or self.max_rows < 1:
            raise ConfigError(f"reward {self.name!r}: timeout_s and max_rows must be above 0")
        if not self._folder.is_dir():
            raise ConfigError(f"reward {self.name!r}: database = {self.database!r}: there is no folder {self._folder}")

    @property
    def _folder(self) -> Path:
        """The folder of databases: what stands before the first brace."""
        constant = self.database.split("{", 1)[0]
        return (self.root / constant[: constant.rfind("/") + 1]).resolve()

    @property
    def version(self) -> str:
        return content_id(code(__name__), self.name, self.database, self.gold, self.timeout_s, self.max_rows)

    def verify(self, case: Case, output: str) -> float | None:
        gold = case.task.get(self.gold)
        path = self._path(case.task)
        if not isinstance(gold, str) or path is None:
            return None
        database = sqlite.Database(path=path, timeout_s=self.timeout_s, max_rows=self.max_rows)
        try:
            expected = database.read(gold)
        except sqlite.RefusedError:
            return None
        return None if not expected else sqlite.reward(database, extract_sql(output), expected)

    def _path(self, task: Any) -> Path | None:
        """The database of a task; None where the task does not name one that exists inside the folder."""
        fields = _FIELD.findall(self.database)
        if any(task.get(name) is None for name in fields):
            return None
        path = (self.root / _FIELD.sub(lambda hit: str(task[hit.group(1)]), self.database)).resolve()
        return path if path.is_relative_to(self._folder) and path.is_file() else None
