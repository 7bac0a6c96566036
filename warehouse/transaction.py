"""One write to the lake: what may be done between BEGIN and COMMIT."""

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from tracemill.errors import StoreError
from tracemill.records import Batch
from tracemill.schema import TABLES, Table
from tracemill.warehouse import engine, erasing, groups, rows
from tracemill.warehouse import rebuild as building
from tracemill.warehouse import take as taking
from tracemill.warehouse.erasing import Erased, Scope
from tracemill.warehouse.layout import statement
from tracemill.warehouse.place import Place
from tracemill.warehouse.take import Taken

_OWN_WAY = {
    "spans": "take(batch)",
    "span_parts": "take(batch)",
    "ingest_progress": "take(batch)",
    "erased": "erase(…)",
    "trace_days": "take(batch)",
    "trajectories": "rebuild(trace_ids)",
    "transitions": "rebuild(trace_ids)",
}


class Transaction:
    """Made by Lake.transaction. Every method is idempotent and sees what earlier ones in the transaction wrote."""

    def __init__(self, con: duckdb.DuckDBPyConnection, place: Place, empty: frozenset[str] = frozenset()) -> None:
        self.con = con
        """For reading inside the transaction, its own writes included. Write through the methods."""
        self._place = place
        self._empty = empty
        """Tables that hold nothing; forgotten with the first write."""
        self._arrival: building.Arrival | None = None
        """Of the batch that was taken last, until its trajectories are made."""

    def take(self, batch: Batch) -> Taken:
        """Write what ingest made of some source objects; objects and rows already in the lake are not written again.

        A span that comes again with other content replaces the older version: the later revision counts, without
        revisions the later batch. Parts of spans are laid upon what is known of them, in any order of arrival.
        Raises StoreError where rows do not fit.
        """
        with engine.translated(self._place):
            taken, self._arrival = taking.take(self.con, batch, self._written())
        return taken

    def reopen(self, objects: Sequence[tuple[str, str]]) -> None:
        """Forget that these source objects (uri, content hash) were taken in, and what was refused of them.

        Their rows stay: what comes again is told by its keys.
        """
        if not objects:
            return
        names = ("source_uri", "content_hash")
        with engine.translated(self._place):
            self.con.register(
                "reopened", pa.table([list(column) for column in zip(*objects, strict=True)], names=names)
            )
            for table in ("ingest_log", "quarantine"):
                self.con.execute(statement("reopen").format(table=table))
            self.con.unregister("reopened")

    def erase(self, scope: Scope, subject: str, *, names: str | None, receipt_id: str) -> Erased:
        """Erase traces with all rows made from them: of a user (stored key), one trace, or all that ended before.

        `subject` is the user key, the trace id, or a time in nanoseconds. `names` is what the user is called in the
        logs: messages that name it go also where others refer to them. The erased do not come back when their source
        is read again. The bytes go with Lake.purge.
        """
        self._arrival = None
        self._written()
        with engine.translated(self._place):
            return erasing.erase(self.con, scope, subject, names=names, receipt_id=receipt_id)

    def renew(self, objects: Sequence[tuple[str, str, str]]) -> None:
        """Note that these source objects (uri, content hash) were found as they were, in the state of a fingerprint."""
        if not objects:
            return
        names = ("source_uri", "content_hash", "fingerprint")
        with engine.translated(self._place):
            self.con.register("renewed", pa.table([list(column) for column in zip(*objects, strict=True)], names=names))
            self.con.execute(statement("renew"))
            self.con.unregister("renewed")

    def insert(self, name: str, table: pa.Table) -> int:
        """Add rows whose key is new to table `name`; returns how many were. Raises StoreError where rows do not fit."""
        with engine.translated(self._place):
            target = self._target(name)
            self._written()
            return rows.insert(self.con, target, rows.checked(table, target.schema, name, target.key))

    def replace(self, name: str, table: pa.Table) -> int:
        """Add rows or put them in place of those with the same key; returns how many were new or different."""
        with engine.translated(self._place):
            target = self._target(name)
            if target.append_only:
                raise StoreError(f"table {name} is only ever added to: use insert")
            self._written()
            return rows.replace(self.con, target, rows.checked(table, target.schema, name, target.key))

    def refill(self, name: str, table: pa.Table) -> int:
        """Have table `name` hold these rows and no others; returns how many were new, different, or taken away."""
        with engine.translated(self._place):
            target = self._target(name)
            if target.append_only:
                raise StoreError(f"table {name} is only ever added to: use insert")
            self._written()
            return rows.refill(self.con, target, rows.checked(table, target.schema, name, target.key))

    def rebuild(self, trace_ids: Sequence[str]) -> pa.Table:
        """Make `trajectories` and `transitions` of exactly these traces anew from their spans.

        Task groups, pools and sites once assigned are kept; a site only while the call's prompt is the same.
        Returns those that have no task group yet: trajectory_id, task_key, task_text (either may be NULL).
        """
        arrival, self._arrival = self._arrival, None
        if arrival is not None and arrival.trace_ids != set(trace_ids):
            arrival = None
        with engine.translated(self._place):
            return building.rebuild(self.con, trace_ids, arrival)

    def assign_groups(self, assigned: pa.Table, new_groups: pa.Table) -> int:
        """Give trajectories (trajectory_id, task_group, pool) their group, and add rows of TASK_GROUPS.

        A trajectory that has a group keeps it. Returns how many were assigned. Raises StoreError where a group would
        lie in two pools.
        """
        with engine.translated(self._place):
            return groups.assign_groups(
                self.con,
                rows.checked(assigned, groups.ASSIGNED_GROUPS, "assign_groups", ("trajectory_id",)),
                rows.checked(new_groups, TABLES["task_groups"].schema, "task_groups", TABLES["task_groups"].key),
            )

    def assign_sites(self, assigned: pa.Table) -> int:
        """Give transitions (trajectory_id, step, site_id, site_version) their site; returns how many changed."""
        with engine.translated(self._place):
            return groups.assign_sites(
                self.con, rows.checked(assigned, groups.ASSIGNED_SITES, "assign_sites", ("trajectory_id", "step"))
            )

    def _written(self) -> frozenset[str]:
        """What was empty before the write that is to come."""
        empty, self._empty = self._empty, frozenset()
        return empty

    def _target(self, name: str) -> Table:
        table = rows.table_named(name)
        if name in _OWN_WAY:
            raise StoreError(f"table {name} is written by {_OWN_WAY[name]} only")
        return table
