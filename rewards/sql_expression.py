"""The SQL-expression reward model: a rule of the operator's own over a view of the lake."""

import re
from dataclasses import dataclass
from typing import Literal

import duckdb
import pyarrow as pa

from tracemill.errors import ConfigError, QueryError
from tracemill.ids import content_id
from tracemill.rewards.code import code
from tracemill.rewards.rows import scores
from tracemill.rewards.unfitted import Unfitted

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TARGETS = {"trajectory": ("trajectory_id", "trace_id"), "session": ("session_id",)}
_FOLDS = ("min", "max", "avg")


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlExpression(Unfitted):
    """A boolean or a number in [0, 1] for each row of `view`, folded (min, max, avg) over the rows of a target.

    Judges what was logged only. A row for which the expression is NULL says nothing; a number outside [0, 1] is an
    abstention. A target is judged once by one version: rows that arrive later are not looked at.
    """

    expression: str
    view: str
    name: str = "sql_expression"
    fold: str = "min"
    level: Literal["trajectory", "session"] = "trajectory"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.view):
            raise ConfigError(f"reward {self.name!r}: {self.view!r} is no name of a view; take one such as llm_calls")
        if self.fold not in _FOLDS:
            raise ConfigError(f"reward {self.name!r}: unknown fold {self.fold!r}; known: {', '.join(_FOLDS)}")
        if self.level not in _TARGETS:
            raise ConfigError(f"reward {self.name!r}: unknown level {self.level!r}; known: {', '.join(_TARGETS)}")

    @property
    def version(self) -> str:
        return content_id(code(__name__), self.name, self.expression, self.view, self.fold, self.level)

    @property
    def family(self) -> str:
        return self.name

    def score(self, con: duckdb.DuckDBPyConnection, *, now_ns: int) -> pa.Table:
        columns = self._columns(con)
        target = next((column for column in _TARGETS[self.level] if column in columns), None)
        if target is None:
            raise ConfigError(
                f"reward {self.name!r}: view {self.view} has none of {', '.join(_TARGETS[self.level])}; "
                f"it cannot be scored at level {self.level}"
            )
        # The expression stands alone in its parentheses and the statement is one SELECT, or it is refused.
        sql = (
            f'with judged as (select "{target}" as target_id, (\n{self.expression}\n)::double as unit'
            f' from {self.view} where "{target}" is not null),\n'
            f"folded as (select target_id, {self.fold}(unit) as folded from judged group by target_id)\n"
            "select target_id, case when folded between 0 and 1 then folded end as value from folded f\n"
            "where not exists (select 1 from scores s where s.target_kind = $kind and s.target_id = f.target_id"
            " and s.name = $name and s.version = $version) order by target_id"
        )
        try:
            statements = duckdb.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise QueryError(f"reward {self.name!r}: {self.expression!r} is not one SQL expression")
            params = {"kind": self.level, "name": self.name, "version": self.version}
            rows = con.execute(sql, params).to_arrow_table()
        except duckdb.Error as error:
            raise QueryError(f"reward {self.name!r}: {self.expression!r} over {self.view} failed: {error}") from error
        return scores(rows, name=self.name, version=self.version, now_ns=now_ns, family=self.family, kind=self.level)

    def _columns(self, con: duckdb.DuckDBPyConnection) -> list[str]:
        try:
            return [row[0] for row in con.execute(f"describe {self.view}").fetchall()]
        except duckdb.Error as error:
            raise QueryError(f"reward {self.name!r}: no view {self.view}: {error}") from error
