"""Releases as rows: what a channel points to, what it pointed to before, and the way back.

A channel is a stack: a promotion puts a bundle on top, a rollback takes it off again, so a second rollback goes one
further back. Pipelines reads the rows (schema.RELEASES), hands them in, and writes what comes out.
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tracemill import schema
from tracemill.errors import ConfigError
from tracemill.ids import content_id

Release = Mapping[str, Any]
"""One row of schema.RELEASES."""


def promote(
    releases: pa.Table,
    *,
    channel: str,
    bundle_id: str,
    bundle_uri: str,
    candidate_id: str | None,
    verdict_id: str | None,
    snapshot_id: int | None,
    actor: str,
    at: int,
) -> pa.Table:
    """One row to add: `channel` now points to the bundle. No row where it already does."""
    before = current(releases, channel)
    if before is not None and before["bundle_id"] == bundle_id:
        return schema.RELEASES.empty_table()
    return _row(
        channel=channel,
        action="promote",
        bundle_id=bundle_id,
        bundle_uri=bundle_uri,
        candidate_id=candidate_id,
        verdict_id=verdict_id,
        previous_bundle_id=None if before is None else before["bundle_id"],
        snapshot_id=snapshot_id,
        actor=actor,
        at=at,
    )


def rollback(releases: pa.Table, channel: str) -> Release:
    """The release to go back to, with its bundle; ConfigError where there is none."""
    stack = _stack(releases, channel)
    if not stack:
        raise ConfigError(f"channel {channel!r} has no release; nothing to roll back")
    if len(stack) == 1:
        raise ConfigError(
            f"channel {channel!r} is at its first release, bundle {stack[0]['bundle_id']}; nothing to go back to"
        )
    return stack[-2]


def rolled_back(releases: pa.Table, channel: str, *, actor: str, at: int) -> pa.Table:
    """One row to add once the publishers stand at `rollback(releases, channel)` again."""
    target, left = rollback(releases, channel), _stack(releases, channel)[-1]
    return _row(
        channel=channel,
        action="rollback",
        bundle_id=target["bundle_id"],
        bundle_uri=target["bundle_uri"],
        candidate_id=target["candidate_id"],
        verdict_id=target["verdict_id"],
        previous_bundle_id=left["bundle_id"],
        snapshot_id=target["snapshot_id"],
        actor=actor,
        at=at,
    )


def current(releases: pa.Table, channel: str) -> Release | None:
    """The release that the channel stands at; None where nothing was released."""
    stack = _stack(releases, channel)
    return stack[-1] if stack else None


def history(releases: pa.Table, channel: str | None = None) -> pa.Table:
    """Releases, newest first; of one channel, or of all."""
    if channel is not None:
        releases = releases.filter(pc.field("channel") == channel)
    return releases.sort_by([("at", "descending"), ("release_id", "ascending")])


def _stack(releases: pa.Table, channel: str) -> list[Release]:
    stack: list[Release] = []
    for row in reversed(history(releases, channel).to_pylist()):
        if row["action"] == "rollback":
            del stack[-1:]
        else:
            stack.append(row)
    return stack


def _row(**values: Any) -> pa.Table:
    release_id = content_id(values)
    return pa.Table.from_pylist([{"release_id": release_id, **values}], schema=schema.RELEASES)
