"""Spans that go straight into rows and spans that go the general way: the same rows, for whatever a log says."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from few_examples import some
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from otlp_lines import otlp_value

from tracemill import ingest
from tracemill.ids import canonical_json
from tracemill.ingest.otel.plans import PLACES
from tracemill.ingest.otel.straight import Straight
from tracemill.ingest.reader import Bundle
from tracemill.ingest.redact import Redaction, Redactor, Ruleset

KEY = b"k" * 32

TEXTS = st.sampled_from((
    "", " ", "hello there", "write to bob@example.org", "call +44 20 7946 0958", "x [truncated]", "[sanitized]",
    "sk-proj-abcdefghijklmnop1234", "4111 1111 1111 1111", "10.20.30.40", "naïve “café”", "a\nb\\n@c", "12",
    '{"a": "x\\u0040example.org"}', '{"n": 1.5, "e": 1e30, "b": [true, null]}', '{"password": "hunter22"}', "[]", "{}",
    '[{"role":"user"}]', "conv-1", "DE89370400440532013000", "0123456789abcdef", "not [json", '"quoted"',
    "gcp.vertex.agent",
))  # fmt: skip
PARTS = st.one_of(
    st.builds(lambda text: {"type": "text", "content": text}, TEXTS),
    st.builds(lambda a, i: {"type": "tool_call", "id": i, "name": "look", "arguments": a}, st.one_of(
        TEXTS, st.just({"id": 7, "q": "eve@example.org"}), st.just({"x": 1.0, "token": "Zx81kk20dk39dk1b7q"}), st.none()
    ), st.sampled_from(("c1", None))),
    st.builds(lambda r: {"type": "tool_call_response", "id": "c1", "response": r}, st.one_of(
        TEXTS, st.just({"rows": [{"id": 4111111111111111, "note": "ok"}]}), st.just([1, 2.5])
    )),
    st.sampled_from(({"type": "reasoning", "content": "hm"}, {"text": "bare"}, "plain", {"type": "uri", "uri": "s3://x"})),
)  # fmt: skip
MESSAGES = st.one_of(
    st.builds(
        lambda role, parts, more: {"role": role, "parts": parts} | more,
        st.sampled_from(("user", "assistant", "system", "tool", "developer", "Human")),
        st.lists(PARTS, max_size=3),
        st.sampled_from(({}, {"finish_reason": "stop"}, {"name": "ann"}, {"finish_reason": 3})),
    ),
    st.sampled_from(({"role": "user", "content": "old"}, {"content": "x"}, "bare", 3, None)),
)
LISTS = st.one_of(st.lists(MESSAGES, max_size=4).map(json.dumps), TEXTS)
SCALARS = st.one_of(
    TEXTS,
    st.sampled_from((0, 1, -5, 130, 2**63, 4111111111111111, 10**10, 0.2, -1.5, 1e300, True, None)),
    st.lists(TEXTS, max_size=2),
    st.dictionaries(st.sampled_from(("a", "api_key", "e@example.org")), TEXTS, max_size=2),
)
SAID = ("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions", "gen_ai.tool.definitions")
SPELLINGS = [[name for name in PLACES if PLACES[name] == place] for place in sorted(set(PLACES.values()))]
TAME = (
    *SPELLINGS, ["server.address"], ["server.port"], ["gen_ai.request.temperature"], ["gen_ai.request.max_tokens"],
    ["tier"], ["gen_ai.usage.total_tokens"], ["gen_ai.tool.type"], ["user.email"],
)  # fmt: skip
WILD = st.sampled_from((
    *PLACES, *SAID, "user.email", "app.api_key", "x.token", "card number", "gen_ai.request.max_tokens",
    "gen_ai.request.stop_sequences", "gen_ai.prompt", "gen_ai.request.output_type", "gen_ai.token.type", "events",
    "input", "output", "task.id", "gen_ai.cost", "gen_ai.usage.total_tokens", "traceloop.span.kind", "llm.top_k",
    "openinference.span.kind", "bob@example.org", "gen_ai.prompt_token_ids", "logprobs.content",
    "gen_ai.retrieval.documents", "gen_ai.input.messages_ref",
))  # fmt: skip
WORDS = st.sampled_from(
    ("conv-1", "gpt-5", "a b c", "eve@example.org", "0123456789abcdef", "3", "call_1", "4111111111111111")
)


def usual(name: str) -> st.SearchStrategy[Any]:
    """What instrumentations write there."""
    if name in SAID:
        return st.lists(MESSAGES, max_size=4).map(json.dumps)
    if name.startswith("gen_ai.tool.call."):
        return TEXTS
    if name.startswith(("gen_ai.usage", "gen_ai.request.max")):
        return st.sampled_from((0, 1, 130, 2**63, -1, 10**16))
    if name == "gen_ai.response.finish_reasons":
        return st.lists(st.sampled_from(("stop", "length", "eve@example.org")), max_size=2)
    return st.sampled_from((0.2, 1.0, 443)) if name in ("gen_ai.request.temperature", "server.port") else WORDS


OPERATIONS = st.sampled_from((*("chat", "execute_tool", "invoke_agent") * 3, "plan", "retrieval", "other", "", 3))
EXCEPTION = {"name": "exception", "attributes": [{"key": "exception.type", "value": {"stringValue": "E"}}]}
JUDGED = {
    "name": "gen_ai.evaluation.result",
    "timeUnixNano": "5",
    "attributes": [{"key": "gen_ai.evaluation.score.value", "value": {"doubleValue": 0.5}}],
}


def mostly(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from((*[usual] * 4 * len(others), *others))


TRACES = mostly("0af7651916cd43dd8448eb211c80319c", "41111111111111111111111111111111")
CALLED = mostly("chat x", "ann@example.org", "agentlightning.annotation", None)
STARTS = mostly("1700000000000000000", "1800000000000000000", "0", "x")
STATUSES = mostly({}, {"code": 2, "message": "failed for eve@example.org"}, {"code": "OK"})
RESOURCES = mostly(
    {"service.name": "desk"}, {}, {"service.name": "d", "host": "eve@example.org"}, {"service.name": "eve@example.org"}
)
SCOPES = mostly("opentelemetry.instrumentation.x", "lib", "", "gcp.vertex.agent")


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """Spans of a few shapes, several of each: what the first of a shape teaches must hold for the others."""
    spans = []
    for shape in range(draw(st.integers(1, 2))):
        things = draw(st.lists(st.sampled_from(TAME), max_size=14, unique_by=tuple))
        names = [names[0] if draw(st.integers(0, 4)) else draw(st.sampled_from(names)) for names in things]
        if not draw(st.integers(0, 3)):
            names += draw(st.lists(WILD, max_size=2))
        if draw(st.integers(0, 9)):
            names = ["gen_ai.operation.name", *(name for name in names if name != "gen_ai.operation.name")]
        operation = draw(OPERATIONS)
        for at in range(draw(st.integers(1, 4))):
            values = [
                (operation if draw(st.integers(0, 4)) else draw(OPERATIONS))
                if name == "gen_ai.operation.name"
                else draw(usual(name) if draw(st.integers(0, 30)) else st.one_of(SCALARS, LISTS))
                for name in names
            ]
            pairs = [{"key": name, "value": otlp_value(value)} for name, value in zip(names, values, strict=True)]
            span = {
                "traceId": draw(TRACES),
                "spanId": draw(mostly(f"{shape + 1}{at:015x}", "4111111111111111")),
                "parentSpanId": draw(st.sampled_from(("", "0000000000000000", "00f067aa0ba902b7"))),
                "name": draw(CALLED),
                "startTimeUnixNano": draw(STARTS),
                "endTimeUnixNano": "1700000001000000000",
                "attributes": pairs,
                "status": draw(STATUSES),
                "droppedAttributesCount": draw(mostly(0, 1)),
                "events": draw(mostly([], [EXCEPTION], [JUDGED, EXCEPTION], [{"name": "other"}])),
            }
            spans.append(span)
    resource, scope = draw(RESOURCES), draw(SCOPES)
    pairs = [{"key": name, "value": otlp_value(value)} for name, value in resource.items()]
    return {
        "resourceSpans": [
            {"resource": {"attributes": pairs}, "scopeSpans": [{"scope": {"name": scope}, "spans": spans}]}
        ]
    }


FORMATS = {".jsonl": "otlp-json", ".pb": "otlp-protobuf"}
Tables = dict[str, list[dict[str, Any]]]


def _rows(log: Path, rules: Ruleset | None, *, straightly: bool) -> tuple[Tables, int]:
    """The rows by table, and how many spans went straight into them."""
    made = 0
    original = Straight.block

    def counted(self: Straight, bundles: list[tuple[Bundle, int]], **place: Any) -> Any:
        nonlocal made
        if not straightly:
            return None
        found = original(self, bundles, **place)
        made += 0 if found is None else len(found.places)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Straight, "block", counted)
        (batch,) = ingest.batches(ingest.find([log]), key=KEY, now_ns=7, rules=rules, format=FORMATS[log.suffix])
    return {name: table.to_pylist() for name, table in batch.tables.items()}, made


def _unordered(tables: Tables) -> Tables:
    """Messages are a set: which of two spans says one first does not matter."""
    return tables | {"messages": sorted(tables["messages"], key=lambda row: (str(row["day"]), row["message_id"]))}


def same_both_ways(log: Path, rules: Ruleset | None = None) -> int:
    """Asserts it; gives the number of spans that went straight."""
    quick, made = _rows(log, rules, straightly=True)
    slow, none = _rows(log, rules, straightly=False)
    assert not none
    for name in slow:
        assert _unordered(quick)[name] == _unordered(slow)[name], name
    return made


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("straight") / "log.jsonl"


@settings(max_examples=some(200), deadline=None, suppress_health_check=list(HealthCheck))
@given(lines=st.lists(requests(), min_size=1, max_size=2))
def test_both_ways_give_the_same_rows(log: Path, lines: list[dict[str, Any]]) -> None:
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    same_both_ways(log)


def _held(target: Any, value: dict[str, Any]) -> None:
    for kind, said in value.items():
        if kind == "arrayValue":
            target.array_value.SetInParent()
            for item in said["values"]:
                _held(target.array_value.values.add(), item)
        elif kind == "kvlistValue":
            target.kvlist_value.SetInParent()
            _pairs(target.kvlist_value.values, said["values"])
        elif kind == "intValue":
            target.int_value = min(int(said), 2**63 - 1)
        elif kind == "doubleValue":
            target.double_value = said
        elif kind == "boolValue":
            target.bool_value = said
        else:
            target.string_value = said


def _pairs(target: Any, pairs: list[dict[str, Any]]) -> None:
    for pair in pairs:
        _held(target.add(key=pair["key"]).value, pair["value"])


def protobuf_of(line: dict[str, Any], more: dict[str, Any]) -> bytes:
    """A request as an exporter sends it in protobuf; `more` is set in the last span."""
    request = ExportTraceServiceRequest()
    for resourced in line["resourceSpans"]:
        target = request.resource_spans.add()
        _pairs(target.resource.attributes, resourced["resource"]["attributes"])
        for scoped in resourced["scopeSpans"]:
            scope = target.scope_spans.add()
            scope.scope.name = scoped["scope"]["name"]
            for said in scoped["spans"]:
                fields: dict[str, Any] = {
                    "trace_id": bytes.fromhex(said["traceId"]),
                    "span_id": bytes.fromhex(said["spanId"]),
                    "parent_span_id": bytes.fromhex(said["parentSpanId"]),
                    "name": said["name"],
                    "start_time_unix_nano": int(said["startTimeUnixNano"].strip("x") or 0),
                    "end_time_unix_nano": int(said["endTimeUnixNano"]),
                    "dropped_attributes_count": said["droppedAttributesCount"],
                }
                span = scope.spans.add(**fields | (more if said is scoped["spans"][-1] else {}))
                _pairs(span.attributes, said["attributes"])
                for event in said["events"]:
                    told = span.events.add(name=event["name"], time_unix_nano=int(event.get("timeUnixNano", 0)))
                    _pairs(told.attributes, event.get("attributes", []))
                span.status.message = said["status"].get("message", "")
                span.status.code = {"OK": 1}.get(said["status"].get("code"), said["status"].get("code", 0))
    return request.SerializeToString()


MORE = mostly(
    {}, {"links": [{"trace_id": b"t" * 16, "span_id": b"s" * 8}]}, {"trace_id": b"short"}, {"parent_span_id": b"p"},
    {"trace_id": bytes(16)}, {"span_id": bytes(8)},
    {"attributes": [{"key": "raw", "value": {"bytes_value": b"eve@example.org"}}]},
    {"attributes": [{"key": "gen_ai.tool.call.arguments", "value": {"bytes_value": b"x"}}]},
    {"attributes": [{"key": "nothing"}, {"key": "share", "value": {"double_value": float("nan")}}]},
)  # fmt: skip


@settings(max_examples=some(150), deadline=None, suppress_health_check=list(HealthCheck))
@given(line=requests(), more=MORE)
def test_protobuf_gives_the_same_rows_both_ways(log: Path, line: dict[str, Any], more: dict[str, Any]) -> None:
    log = log.with_suffix(".pb")
    made = protobuf_of(line, more)
    log.write_bytes(made)
    same_both_ways(log)


def test_protobuf_goes_straight_as_json_does(log: Path) -> None:
    said = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "for ann@example.org"}]}])
    spans = [_span(at, **{"gen_ai.input.messages": said, "client.address": f"10.1.2.{at}"}) for at in range(1, 6)]
    _written(log, spans)
    as_json, made = _rows(log, None, straightly=True)
    usual = {"parentSpanId": "", "droppedAttributesCount": 0, "events": [], "status": {}}
    scoped = {"scope": {"name": "lib"}, "spans": [span | usual for span in spans]}
    packed = log.with_suffix(".pb")
    packed.write_bytes(protobuf_of({"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [scoped]}]}, {}))
    as_protobuf, made_too = _rows(packed, None, straightly=True)
    assert made == made_too == 5
    of_the_file = {"source_uri", "source_line", "source_format"}
    for name in ("spans", "messages"):
        plain, other = (
            [{key: value for key, value in row.items() if key not in of_the_file} for row in tables[name]]
            for tables in (as_json, as_protobuf)
        )
        assert plain == other


def _span(number: int, **attributes: Any) -> dict[str, Any]:
    pairs = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "server.port": 443} | attributes
    return {
        "traceId": "0af7651916cd43dd8448eb211c80319c",
        "spanId": f"{number:016x}",
        "name": "chat m",
        "startTimeUnixNano": "1700000000000000000",
        "endTimeUnixNano": "1700000001000000000",
        "attributes": [{"key": name, "value": otlp_value(value)} for name, value in pairs.items()],
    }


def _written(log: Path, spans: list[dict[str, Any]]) -> None:
    scoped = {"scope": {"name": "lib"}, "spans": spans}
    log.write_text(json.dumps({"resourceSpans": [{"resource": {}, "scopeSpans": [scoped]}]}))


def test_a_long_session_with_something_private_in_it_goes_straight(log: Path) -> None:
    said: list[dict[str, Any]] = []
    spans = []
    for turn in range(12):
        said.append({"role": "user", "parts": [{"type": "text", "content": f"turn {turn}: ann@example.org"}]})
        spans.append(_span(turn + 1, **{"gen_ai.input.messages": json.dumps(said), "client.address": f"10.1.2.{turn}"}))
        said.append({"role": "assistant", "parts": [{"type": "text", "content": f"answer {turn}"}]})
    _written(log, spans)
    assert same_both_ways(log) == 12


def test_a_history_that_was_rewritten_is_read_anew(log: Path) -> None:
    told = [
        [{"role": "user", "parts": [{"type": "text", "content": f"{at} {word}"}]} for at in range(9)] for word in "ab"
    ]
    told.append(told[1][:7])
    _written(log, [_span(at, **{"gen_ai.input.messages": json.dumps(said)}) for at, said in enumerate(told, start=1)])
    assert same_both_ways(log) == 3


def test_a_projects_own_rules_hold(log: Path) -> None:
    rules = Ruleset(Redaction(extra={"ticket": "T-[0-9]+"}, keep=("desk@example.org",)))
    said = [
        {"role": "user", "parts": [{"type": "text", "content": text}]} for text in ("T-1 please", "desk@example.org")
    ]
    _written(log, [_span(1, **{"gen_ai.input.messages": json.dumps(said), "tier": "T-12"}), _span(2, tier="gold")])
    assert same_both_ways(log, rules) == 2


PIECES = st.sampled_from((
    "eve@", "example.org", "\n", " ", "4111 1111", " 1111 1111", "+44 20 7946", " 0958", "sk-proj-",
    "abcdefghijklmnop12",
    "-----BEGIN RSA PRIVATE KEY-----", "password", ": ", "hunter22!", "10.1.", "2.3", "\\u0040", "é", "\\n", "Bearer ",
    "PuTTY-User-Key-File-2", "DE89 3704 0044 0532 0130 00", "a", "_", "://u:", "pw12345@h", "\ud800", "123-45-", "6789",
))  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(texts=st.lists(st.lists(PIECES, max_size=5).map("".join), max_size=12))
def test_many_texts_are_judged_as_each_is(texts: list[str]) -> None:
    each = Redactor(KEY)
    assert Redactor(KEY).changed(texts) == {text for text in texts if each.text(text) != text}


@settings(max_examples=some(200), deadline=None)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
    )
)
def test_canonical_json_without_fractions_is_written_by_msgspec(value: Any) -> None:
    try:
        written = canonical_json(value).encode()
    except UnicodeEncodeError:
        with pytest.raises(UnicodeEncodeError):
            msgspec.json.encode(value, order="sorted")
    else:
        assert msgspec.json.encode(value, order="sorted") == written


def test_spans_that_wait_for_others_stay_in_the_batch_of_their_record(log: Path) -> None:
    lines = []
    for at in range(300):
        scoped = {"scope": {"name": "lib"}, "spans": [_span(2 * at + 1), _span(2 * at + 2)]}
        lines.append(json.dumps({"resourceSpans": [{"resource": {}, "scopeSpans": [scoped]}]}))
    log.write_text("\n".join(lines) + "\n")
    found: list[dict[str, Any]] = []
    cuts = 0
    for batch in ingest.batches(ingest.find([log]), key=KEY, now_ns=7, max_bytes=130_000):
        spans = batch.tables["spans"].to_pylist()
        for account in (*batch.tables["ingest_log"].to_pylist(), *batch.tables["ingest_progress"].to_pylist()):
            assert account["n_records"] == (len(found) + len(spans)) // 2
            assert account["n_items"] == len(spans)
        found += spans
        cuts += 1
    assert cuts > 2
    assert [row["span_id"] for row in found] == [f"{at:016x}" for at in range(1, 601)]
    assert [row["seq"] for row in found] == [0, 1] * 300
    assert [row["source_line"] for row in found] == [at // 2 + 1 for at in range(600)]
