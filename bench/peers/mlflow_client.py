"""MLflow's answers, by its own client: search_traces, get_trace and its metrics. Runs in its environment.

python mlflow_client.py PORT
"""

import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from answering import serve
from mlflow import MlflowClient
from mlflow.entities import AssessmentSource, Feedback
from mlflow.entities.trace_metrics import AggregationType, MetricAggregation, MetricViewType
from mlflow.store.tracking.rest_store import RestStore
from mlflow.utils.credentials import get_default_host_creds

URI = f"http://127.0.0.1:{sys.argv[1]}"
EXPERIMENT = "0"
client = MlflowClient(tracking_uri=URI)
store = RestStore(lambda: get_default_host_creds(URI))


def traces(
    where: str | None = None, *, spans: bool, most: int | None = None, order: str | None = None
) -> Iterator[Any]:
    token, given = None, 0
    while True:
        page = client.search_traces(
            locations=[EXPERIMENT],
            filter_string=where,
            max_results=min(500, most or 500),
            order_by=[order] if order else None,
            page_token=token,
            include_spans=spans,
        )
        yield from page
        given, token = given + len(page), page.token
        if not token or not page or (most and given >= most):
            return


def plain(trace_id: str) -> str:
    return trace_id.removeprefix("tr-")


def day_of(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9, tz=UTC).date().isoformat()


def within(day: str) -> str:
    begin = datetime.fromisoformat(day).replace(tzinfo=UTC)
    first, last = (int(one.timestamp() * 1000) for one in (begin, begin + timedelta(days=1)))
    return f"trace.timestamp_ms >= {first} AND trace.timestamp_ms < {last}"


def spans_of(kind: str) -> Iterator[Any]:
    return (span for one in traces(spans=True) for span in one.data.spans if span.span_type == kind)


def failed(span: Any) -> bool:
    return str(span.status.status_code.value) == "ERROR"


def load_rewards(about: dict[str, Any]) -> list[list[Any]]:
    """Feedback of traces: [[span_id, trace_id, value], …]."""
    source = AssessmentSource(source_type="CODE", source_id="tools")
    for _, trace, value in about["rewards"]:
        store.create_assessment(Feedback(name="tools", value=value, source=source, trace_id=f"tr-{trace}"))
    return []


def failure_rate(_: dict[str, Any]) -> Any:
    found: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for span in spans_of("CHAT_MODEL"):
        counts = found[(span.attributes["gen_ai.agent.name"], day_of(span.start_time_ns))]
        counts[0] += 1
        counts[1] += failed(span)
    return ([*key, *counts] for key, counts in found.items())


def p95(_: dict[str, Any]) -> Any:
    token = None
    while True:
        page = store.query_trace_metrics(
            experiment_ids=[EXPERIMENT],
            view_type=MetricViewType.SPANS,
            metric_name="latency",
            aggregations=[MetricAggregation(AggregationType.PERCENTILE, percentile_value=95.0)],
            dimensions=["span_name"],
            page_token=token,
        )
        for point in page:
            name = point.dimensions["span_name"]
            if name.startswith("execute_tool "):  # the types that spans have here are not in its tables
                (value,) = point.values.values()
                yield name.removeprefix("execute_tool "), value
        token = page.token
        if not token:
            return


def cost(_: dict[str, Any]) -> Any:
    found: dict[tuple[str, str], float] = defaultdict(float)
    for span in spans_of("CHAT_MODEL"):
        told = span.attributes
        key = (day_of(span.start_time_ns), told.get("gen_ai.response.model") or told["gen_ai.request.model"])
        found[key] += told.get("gen_ai.usage.cost") or 0.0
    return ([*key, usd] for key, usd in found.items())


def rewarded(about: dict[str, Any]) -> Any:
    for one in traces(f"feedback.tools < 0.5 AND {within(about['day'])}", spans=True):
        for span in one.data.spans:
            yield plain(one.info.trace_id), span.span_id, span.name


def text(about: dict[str, Any]) -> Any:
    return ([plain(one.info.trace_id)] for one in traces(f"trace.text ILIKE '%{about['phrase']}%'", spans=False))


def one_trace(about: dict[str, Any]) -> Any:
    return ([span.span_id, span.name] for span in client.get_trace(f"tr-{about['trace_id']}").data.spans)


def sessions(about: dict[str, Any]) -> Any:
    found: dict[str, int] = defaultdict(int)
    for one in traces(f"metadata.`mlflow.trace.user` = '{about['user']}'", spans=False):
        found[one.info.trace_metadata["mlflow.trace.session"]] += 1
    return found.items()


def tokens(_: dict[str, Any]) -> Any:
    found: dict[int, list[int | None]] = defaultdict(list)
    for one in traces(spans=True):
        calls = sorted(
            (span for span in one.data.spans if span.span_type == "CHAT_MODEL"), key=lambda span: span.start_time_ns
        )
        for step, span in enumerate(calls):
            found[step].append(span.attributes.get("gen_ai.usage.input_tokens"))
    for step, told in found.items():
        known = [one for one in told if one is not None]
        yield step, len(told), sum(known) / len(known), max(known)


def slowest(about: dict[str, Any]) -> Any:
    """By the milliseconds that it stores."""
    for one in traces(within(about["day"]), spans=False, most=20, order="execution_time DESC"):
        yield plain(one.info.trace_id), one.info.execution_duration / 1000


def tool_errors(_: dict[str, Any]) -> Any:
    found: dict[tuple[str, str], int] = defaultdict(int)
    for span in spans_of("TOOL"):
        if failed(span):
            found[(span.attributes["gen_ai.tool.name"], span.status.description)] += 1
    return ([*key, n] for key, n in found.items())


serve(
    {
        "load rewards": load_rewards,
        "failure rate by agent and day": failure_rate,
        "p95 latency by tool": p95,
        "cost per model per day": cost,
        "episodes under a reward, with spans": rewarded,
        "traces with a text": text,
        "one trace": one_trace,
        "sessions of a user": sessions,
        "tokens by step": tokens,
        "slowest of a day": slowest,
        "tool errors by message": tool_errors,
    }
)
