"""What only a whole batch shows: calls logged twice (wrappers), and spans whose parent is missing (orphans)."""

from collections.abc import Mapping

import pyarrow as pa

from tracemill.schema import SPANS

_Key = tuple[str, str]


def mark(spans: pa.Table, response_ids: Mapping[_Key, str]) -> pa.Table:
    """The spans with the flags `wrapper` and `orphan` added.

    An LLM span is a wrapper when the LLM spans below it are the same call again: one with the same response id or the
    same usage, or several whose usage adds up to its own. Its tokens are counted below it.
    """
    if spans.num_rows == 0 or spans.column("parent_span_id").null_count == spans.num_rows:
        return spans
    names = ("trace_id", "span_id", "parent_span_id", "kind", "tokens_in", "tokens_out", "flags")
    traces, ids, parents, kinds, tokens_in, tokens_out, flags = (spans.column(name).to_pylist() for name in names)
    row = {(trace, span): at for at, (trace, span) in enumerate(zip(traces, ids, strict=True))}
    usage = list(zip(tokens_in, tokens_out, strict=True))
    below: dict[int, list[int]] = {}
    changed = False
    for at, parent in enumerate(parents):
        if parent is None:
            continue
        if (traces[at], parent) not in row:
            flags[at] = [*flags[at], "orphan"]
            changed = True
        if kinds[at] == "llm":
            ancestor = _llm_above(at, traces[at], parents, kinds, row)
            if ancestor is not None:
                below.setdefault(ancestor, []).append(at)
    for wrapper, calls in below.items():
        mine = response_ids.get((traces[wrapper], ids[wrapper]))
        same_answer = mine is not None and any(response_ids.get((traces[c], ids[c])) == mine for c in calls)
        if same_answer or _same_usage(usage[wrapper], [usage[c] for c in calls]):
            flags[wrapper] = [*flags[wrapper], "wrapper"]
            changed = True
    if not changed:
        return spans
    field = SPANS.field("flags")
    return spans.set_column(spans.schema.get_field_index("flags"), field, pa.array(flags, field.type))


def _llm_above(at: int, trace: str, parents: list[str | None], kinds: list[str], row: Mapping[_Key, int]) -> int | None:
    """The nearest LLM span above; broken logs may hold rings, so the walk is bounded."""
    for _ in range(64):
        parent = parents[at]
        above = None if parent is None else row.get((trace, parent))
        if above is None:
            return None
        if kinds[above] == "llm":
            return above
        at = above
    return None


def _same_usage(own: tuple[int | None, int | None], below: list[tuple[int | None, int | None]]) -> bool:
    if own[0] is None or own[1] is None:
        return False
    if own in below:
        return True
    if any(i is None or o is None for i, o in below):
        return False
    return own == (sum(i or 0 for i, _ in below), sum(o or 0 for _, o in below))
