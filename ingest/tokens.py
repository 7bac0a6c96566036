"""Token ids whose text stands elsewhere: they spell it out, and redaction has not read it where they stand.

LiteLLM's proxy logs the engine's token ids in a span of their own below the call that holds the messages. They are
kept only where that call came in the same batch and redaction took nothing from it; otherwise nobody knows what they
would tell.
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

RAW = "raw_gen_ai_request"
"""What LiteLLM calls such a span."""
_SAID = {"input_ids": ("input_token_ids",), "output_ids": ("output_token_ids", "output_logprobs")}
"""Messages, and the columns that spell them out."""


def withheld(spans: pa.Table) -> pa.Table:
    """The spans of a batch without token ids that might spell out what was redacted; such spans get that flag."""
    suspects = pc.indices_nonzero(pc.equal(spans["name"], RAW)).to_pylist()
    if not suspects:
        return spans
    keys = spans.select(["trace_id", "span_id"]).to_pylist()
    places = {(key["trace_id"], key["span_id"]): at for at, key in enumerate(keys)}
    told = spans.select(["trace_id", "parent_span_id", "flags", *_SAID])
    lost: dict[str, set[int]] = {said: set() for said in _SAID}
    for at in suspects:
        row = _row(told, at)
        above = places.get((row["trace_id"], row["parent_span_id"]))
        call = _row(told, above) if above is not None else {"flags": ["redacted"]}
        for said, spelled in _SAID.items():
            if row[said] is None and spans[spelled[0]][at].is_valid and ("redacted" in call["flags"] or not call[said]):
                lost[said].add(at)
    for said, spelled in _SAID.items():
        for name in spelled:
            spans = _changed(spans, name, dict.fromkeys(lost[said]))
    gone = {
        at: [*dict.fromkeys([*told["flags"][at].as_py(), "redacted"])]
        for said, (first, *_) in _SAID.items()
        for at in lost[said]
    }
    return _changed(spans, "flags", gone)


def _row(table: pa.Table, at: int) -> dict[str, Any]:
    row: dict[str, Any] = table.slice(at, 1).to_pylist()[0]
    return row


def _changed(table: pa.Table, name: str, values: Mapping[int, Any]) -> pa.Table:
    if not values:
        return table
    column = table[name].to_pylist()
    for at, value in values.items():
        column[at] = value
    return table.set_column(
        table.schema.get_field_index(name), table.schema.field(name), pa.array(column, table.schema.field(name).type)
    )
