"""The cache of replayed model calls: the same request is paid for once in the life of a lake."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import pyarrow as pa

from tracemill.schema import REPLAY_SOURCES, REPLAYS
from tracemill.warehouse.lake import Lake

_KNOWN = "SELECT replay_key, completion FROM replays WHERE replay_key IN (SELECT unnest(?::VARCHAR[]))"
_SOURCES = """
SELECT replay_key, list(trace) FROM replay_sources
WHERE replay_key IN (SELECT unnest(?::VARCHAR[])) GROUP BY replay_key
"""


class ReplayCache:
    """Completions by replay key (records.ChatRequest.replay_key), kept in the lake's table `replays`."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._noted: set[tuple[str, str]] = set()

    def get(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Replay key -> JSON of records.Completion, for those of `keys` that are known."""
        if not keys:
            return {}
        with self._lake.reader() as con:
            # A list costs less than a registered table does, which counts where some dozen are asked for at a time.
            return dict(con.execute(_KNOWN, [list(keys)]).fetchall())

    def put(self, rows: Mapping[str, str], model: str, now_ns: int, sources: Mapping[str, Collection[str]]) -> int:
        """Keep completions in one transaction; known keys stay as they are. Returns how many are new.

        `sources`: whose values their requests show (ChatRequest.asked_by): a completion is erased with any of them.
        """
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
            new = tx.insert("replays", table)
            tx.insert("replay_sources", _links((key, one) for key in rows for one in sources.get(key, ())))
        return new

    def note(self, sources: Mapping[str, Collection[str]]) -> None:
        """Has known completions be erased with these, too: cases equal to those that first asked.

        Not those of nobody, as an earlier version kept them: they would pass for completions of these alone.
        """
        missing = {
            key: {one for one in names if (key, one) not in self._noted} for key, names in sources.items() if names
        }
        asked = sorted(key for key, names in missing.items() if names)
        if not asked:
            return
        with self._lake.reader() as con:
            known = {key: set(names) for key, names in con.execute(_SOURCES, [asked]).fetchall()}
        new = [(key, one) for key in asked if key in known for one in sorted(missing[key] - known[key])]
        if new:
            with self._lake.transaction("replays asked for again") as tx:
                tx.insert("replay_sources", _links(new))
        self._noted.update((key, one) for key in asked for one in missing[key])


def _links(links: Iterable[tuple[str, str]]) -> pa.Table:
    known = list(links)
    columns = {"replay_key": [key for key, _ in known], "trace": [one for _, one in known]}
    return pa.table(columns, schema=REPLAY_SOURCES)
