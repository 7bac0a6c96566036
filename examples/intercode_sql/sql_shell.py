"""InterCode-SQL as an environment: an agent asks a SQLite database until it submits, and its last result is compared.

Databases are opened read-only and never change; a query that writes, runs too long or gives too much is told so.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracemill.rewards.sql_execution import extract_sql
from tracemill.rewards.sqlite import Database, RefusedError, Rows, same

SUBMIT = "submit"
LOOK = re.compile(
    r"sqlite_(?:master|schema)|information_schema"
    r"|(?:\A|execute\[|```\w*\n)\s*(?:show\s+(?:tables|columns|create)|desc(?:ribe)?\s+\w|pragma\s|\.(?:schema|tables))",
    re.IGNORECASE,
)
"""How SQLite, MySQL and most others are asked what tables there are, and with which columns."""


class SqlShell:
    """One episode on the database that a task names (`db`), with the gold query (`gold`) that is never shown.

    The reward of a query is 1 where it gives the rows of the gold query, as often each, in any order, else 0. A gold
    query without rows proves nothing: then no query has a reward.
    """

    def __init__(
        self,
        *,
        databases: str,
        turns: int = 10,
        looks: int = 0,
        show_schema: bool = False,
        timeout_s: float = 5.0,
        max_rows: int = 100_000,
        shown: int = 2_000,
    ) -> None:
        """`turns`: queries in one episode, 1 for agents that answer at once. `shown`: characters of what one gives."""
        self._folder = Path(databases).resolve()
        if not self._folder.is_dir():
            raise FileNotFoundError(f"there is no folder of databases at {self._folder}")
        self._turns, self._looks, self._show_schema, self._shown = turns, looks, show_schema, shown
        self._limits = {"timeout_s": timeout_s, "max_rows": max_rows}
        self._database: Database | None = None
        self._gold: Rows = []
        self._result: Rows | None = None
        self._asked, self._looked = 0, 0

    def reset(self, task: Mapping[str, Any]) -> str:
        path = (self._folder / f"{task['db']}.sqlite").resolve()
        if not path.is_relative_to(self._folder) or not path.is_file():
            raise FileNotFoundError(f"there is no database {task['db']} in {self._folder}")
        self._database = Database(path=path, **self._limits)
        self._gold = self._database.read(str(task["gold"]))
        self._result, self._asked, self._looked = None, 0, 0
        return _tables(self._database) if self._show_schema else ""

    def step(self, action: str) -> tuple[str, float | None, bool]:
        if self._database is None:
            raise RuntimeError("reset() was not called")
        if action.strip().rstrip(".").lower().endswith(SUBMIT):
            return "", self._reward(), True
        if self._looked < self._looks and LOOK.search(action):
            self._looked += 1
            return _tables(self._database), None, False
        self._asked += 1
        query = extract_sql(action)
        self._result = None
        if query is None:
            seen = "Error: no query was found; write SQL, or submit"
        else:
            try:
                self._result = self._database.read(query)
                seen = str(self._result)
            except RefusedError as error:
                seen = f"Error executing query: {error}"
        over = self._asked >= self._turns
        return seen[: self._shown], self._reward() if over else None, over

    def _reward(self) -> float | None:
        if not self._gold:
            return None
        return 0.0 if self._result is None else float(same(self._result, self._gold))


def _tables(database: Database) -> str:
    return f"The tables are:\n{database.schema()}"
