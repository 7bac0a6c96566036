"""What reward models that learn from labels share: finding again what the lake keeps of them."""

import json
from typing import Any

import duckdb


def kept(con: duckdb.DuckDBPyConnection, name: str, spec: str) -> dict[str, Any] | None:
    """`state` and `lineage` of the newest version that was fitted under these very options (`spec` in its state)."""
    found = con.execute(
        'SELECT state, lineage FROM reward_models WHERE name = ? AND state IS NOT NULL ORDER BY "at" DESC, version',
        [name],
    ).fetchall()
    for state, lineage in found:
        if json.loads(state).get("spec") == spec:
            return {"state": state, "lineage": tuple(lineage or ())}
    return None
