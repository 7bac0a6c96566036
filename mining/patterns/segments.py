"""Segments: who is calling, as far as the log says so: a plan, a region, a role, a tag.

Applications write such things beside a trace: Langfuse's and LangSmith's metadata and tags, OpenInference's metadata,
MLflow's tags, attributes like `user.role`. What a framework writes for itself, what names or dates something, and what
tells how an episode ended is no segment of its callers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from tracemill.mining.patterns.journeys import Journeys, query

MOST = 50
"""A key of more values names something."""
_LOOKED_AT = 5_000
"""Of so many episodes' root spans the keys are looked at; what a finding needs occurs in one of 200."""
_OBJECTS = (
    *("$.metadata", "$.extra.metadata", "$.metadata.requester_metadata", '$."langfuse.trace.metadata"'),
    *('$."langfuse.metadata"', '$."mlflow.info".tags', '$."mlflow.info".trace_metadata'),
)
"""Where formats keep what an application wrote beside its trace."""
_TAGS = (
    *("$.tags", '$."tag.tags"', '$."langfuse.trace.tags"', '$."langfuse.tags"', '$."langsmith.span.tags"'),
    "$.request_tags",
)
_PREFIX = (
    r"^(langfuse\.(trace\.)?metadata|ai\.telemetry\.metadata|traceloop\.association\.properties|langsmith\.metadata"
    r"|metadata)\."
)
"""The same as single attributes."""
_PLAIN = r"^(user|enduser|customer|tenant)\.|^(deployment\.)?environment(\.name)?$"
_NO_SEGMENT = (
    # What names, numbers or dates something.
    r"(?i)(^|[._-])(id|ids|uuid|guid|key|token|hash|e?mail|phone|url|uri|path|cwd|file|host|hostname|ip|address|time|date"
    r"|timestamp|at|seed|index|commit|sha|pid|run|trace|span|session|thread|conversation|request|message)$"
    r"|(?-i:[a-z](Id|Ids|Key|Hash|Url|Time|Date|At)$)"
    # What machines write for themselves.
    r"|^(ls|lc|langgraph|checkpoint|__pregel|sdk|telemetry|otel|mlflow|scope|process|usage|user_api_key)([._]|$)"
    # What tells how an episode ended, or what it took.
    r"|(^|[._-])(reward|score|grade|outcome|success|succeeded|result|status|state|errors?|failed|failure|passed|resolved"
    r"|correct|rating|feedback|label|verdict|completed|finish_reason|duration|latency|cost|tokens?|attempt|retries|trial"
    r"|epoch|turns|steps)([._-]|$)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """Which keys divide callers; by default those that the log has and that look like it."""

    named: Sequence[str] = ()
    """Keys that count whatever they are called, of metadata or of the root span's own attributes."""
    without: Sequence[str] = ()
    """Keys that never count; `tag` stands for all tags."""


def segments(journeys: Journeys, wanted: Segments) -> pa.Table:
    """segment_no, u, agent_no, key and value: the segments that each episode is of."""
    named, without = [*wanted.named, ""], [*wanted.without, ""]  # an empty list has no type
    looked_at = {
        "every": max(1, journeys.n // _LOOKED_AT),
        "places": list(_OBJECTS),
        "prefix": _PREFIX,
        "plain": _PLAIN,
        "no_segment": _NO_SEGMENT,
        "named": named,
        "without": without,
        "most": MOST,
    }
    keys = query(journeys.con, "segment_keys", looked_at)
    found = {
        "keys": [*keys["key"].to_pylist(), ""],
        "paths": [*keys["path"].to_pylist(), "$._"],
        "tags": list(_TAGS),
        "without": without,
        "most": MOST,
    }
    return query(journeys.con, "segments", found)
