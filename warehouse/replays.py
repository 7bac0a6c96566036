"""The cache of replayed model calls: the same request is paid for once in the life of a lake."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from tracemill.schema import REPLAYS
from tracemill.warehouse.lake import Lake

_KNOWN = "SELECT replay_key, completion FROM replays WHERE replay_key IN (SELECT unnest(?::VARCHAR[]))"


class ReplayCache:
    """Completions by replay key (records.ChatRequest.replay_key), kept in the lake's table `replays`."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def get(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Replay key -> JSON of records.Completion, for those of `keys` that are known."""
        if not keys:
            return {}
        with self._lake.reader() as con:
            # A list costs less than a registered table does, which counts where some dozen are asked for at a time.
            return dict(con.execute(_KNOWN, [list(keys)]).fetchall())

    def put(self, rows: Mapping[str, str], model: str, now_ns: int) -> int:
        """Keep completions in one transaction; known keys stay as they are. Returns how many are new."""
        if not rows:
            return 0
        table = pa.table(
            {
                "replay_key": list(rows),
                "model": [model] * len(rows),
                "completion": list(rows.values()),
                "at": [now_ns] * len(rows),
            },
            schema=REPLAYS,
        )
        with self._lake.transaction("replays") as tx:
            return tx.insert("replays", table)
