"""Process: the graph and the commonest ways of a night of mining as rows of the lake, acts in words."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from tracemill.ids import content_id
from tracemill.mining.findings import Found
from tracemill.schema import PROCESS_EDGES, PROCESS_VARIANTS


def act_names(acts: Sequence[Mapping[str, Any]], *, longest: int = 120) -> list[str]:
    """Acts as words, by their number; -1 and -2, the last two, are start and end. Of one site the id is left out, of a
    name what is longer than `longest`."""
    sites: dict[str, set[str]] = {}
    for one in acts:
        if one["kind"] == "llm":
            sites.setdefault(one["agent"], set()).add(one["name"])
    names = []
    for one in acts:
        name = one["name"] if len(one["name"]) <= longest else one["name"][: longest - 1] + "…"
        if one["kind"] == "llm":
            name = f"model {name[:8]}" if name and len(sites[one["agent"]]) > 1 else "model"
        names.append(f"{name}{' (fails)' if one['failed'] else ''}")
    return [*names, "end", "start"]


def edges(found: Found) -> pa.Table:
    """Rows of schema.PROCESS_EDGES: all that there are."""
    named = act_names(found.acts)
    rows: dict[str, dict[str, Any]] = {}
    for row in found.graph.to_pylist():
        cluster_id, site_id = found.task_ids[row["task"]]
        agent, source, target = row["agent_name"] or None, row["from_act"], row["to_act"]
        # A tool and a retriever may have one name.
        kinds = [found.acts[act]["kind"] if act >= 0 else "" for act in (source, target)]
        edge_id = content_id("edge/1", agent, cluster_id, site_id, named[source], named[target], kinds)
        figures = {name: row[name] for name in ("n", "n_success", "n_failure", "wait_s", "run_s")}
        told = {"edge_id": edge_id, "agent_name": agent, "cluster_id": cluster_id, "site_id": site_id}
        rows[edge_id] = {**told, "from_act": named[source], "to_act": named[target], **figures}
    return pa.Table.from_pylist(list(rows.values()), schema=PROCESS_EDGES)


def variants(found: Found) -> pa.Table:
    """Rows of schema.PROCESS_VARIANTS: all that there are."""
    named = act_names(found.acts)
    rows: dict[str, dict[str, Any]] = {}
    for row in found.variants.to_pylist():
        agent, acts = row["agent_name"] or None, [named[act] for act in row["acts"]]
        kinds = [found.acts[act]["kind"] for act in row["acts"]]
        variant_id = content_id("variant/1", agent, acts, kinds)
        figures = {name: row[name] for name in ("n", "n_judged", "n_failed", "share")}
        rows[variant_id] = {"variant_id": variant_id, "agent_name": agent, "acts": acts, **figures}
    return pa.Table.from_pylist(list(rows.values()), schema=PROCESS_VARIANTS)
