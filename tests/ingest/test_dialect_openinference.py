"""OpenInference in full: nested and flat attributes, contents, retrievals, judgements."""

import json
from collections.abc import Callable
from typing import Any

Make = Callable[..., dict[str, Any]]


NESTED = {
    "openinference": {"span": {"kind": "LLM"}},
    "session": {"id": "s1"},
    "user": {"id": "bob-4711"},
    "llm": {
        "model_name": "m-1",
        "invocation_parameters": '{"model": "m", "temperature": 0.5}',
        "token_count": {"prompt": 9, "completion": 3, "prompt_details": {"cache_read": 4}},
        "cost": {"total": 0.25},
        "input_messages": [
            {"message": {"role": "user", "contents": [{"message_content": {"type": "text", "text": "Weather?"}}]}}
        ],
        "output_messages": [{"message": {"role": "assistant", "content": "Rain."}}],
        "tools": [{"tool": {"json_schema": '{"type":"function","function":{"name":"weather"}}'}}],
        "prompt_template": {"template": "{q}?", "version": "v2", "variables": {"q": "Weather"}},
    },
    "metadata": {"plan": "pro"},
}
FLAT = {
    "openinference.span.kind": "LLM",
    "session.id": "s1",
    "user.id": "bob-4711",
    "llm.model_name": "m-1",
    "llm.invocation_parameters": '{"model": "m", "temperature": 0.5}',
    "llm.token_count.prompt": 9,
    "llm.token_count.completion": 3,
    "llm.token_count.prompt_details.cache_read": 4,
    "llm.cost.total": 0.25,
    "llm.input_messages.0.message.role": "user",
    "llm.input_messages.0.message.contents.0.message_content.type": "text",
    "llm.input_messages.0.message.contents.0.message_content.text": "Weather?",
    "llm.output_messages.0.message.role": "assistant",
    "llm.output_messages.0.message.content": "Rain.",
    "llm.tools.0.tool.json_schema": '{"type":"function","function":{"name":"weather"}}',
    "llm.prompt_template.template": "{q}?",
    "llm.prompt_template.version": "v2",
    "llm.prompt_template.variables": '{"q": "Weather"}',
    "metadata": '{"plan": "pro"}',
}


def test_nested_and_flat_openinference_are_the_same_row(take: Any, otlp: Make, request_of: Make) -> None:
    row = {"trace_id": "1" * 32, "span_id": "2" * 16, "name": "a", "attributes": NESTED}
    nested = take(row)
    flat = take(row | {"attributes": FLAT})
    skipped = ("source_uri", "ingested_at")
    for column, value in flat.span.items():
        if column not in skipped:
            assert nested.span[column] == value, column
    assert (flat.span["session_id"], flat.span["prompt_version"], flat.span["cost_usd"]) == ("s1", "v2", 0.25)
    assert json.loads(flat.span["attributes"])["metadata"] == {"plan": "pro"}
    assert "bob-4711" not in nested.everything() + flat.everything()


def test_openinference_contents_calls_and_legacy_functions(read: Callable[..., Any]) -> None:
    said = "llm.input_messages.0.message."
    attributes = {
        "openinference.span.kind": "LLM",
        f"{said}role": "assistant",
        f"{said}contents.0.message_content.type": "reasoning",
        f"{said}contents.0.message_content.text": "hm",
        f"{said}contents.1.message_content.type": "image",
        f"{said}contents.1.message_content.image.image.url": "https://x/y.png",
        f"{said}tool_calls.0.tool_call.id": "c1",
        f"{said}tool_calls.0.tool_call.function.name": "now",
        "llm.input_messages.1.message.role": "assistant",
        "llm.input_messages.1.message.function_call_name": "now",
        "llm.input_messages.1.message.function_call_arguments_json": '{"tz": "UTC"}',
        "llm.choices.0.completion.text": "Noon.",
    }
    taken = read(attributes)
    first, second = taken.said(taken.span["input_ids"])
    assert first[1] == [
        {"type": "reasoning", "content": "hm"},
        {"type": "uri", "modality": "image", "uri": "https://x/y.png"},
        {"type": "tool_call", "id": "c1", "name": "now", "arguments": {}},
    ]
    assert second[1] == [{"type": "tool_call", "id": None, "name": "now", "arguments": {"tz": "UTC"}}]
    assert taken.texts(taken.span["output_ids"]) == ["Noon."]


def test_openinference_retrievals_rerankings_embeddings_and_agents(read: Callable[..., Any]) -> None:
    document = "0.document."
    retriever = {
        "openinference.span.kind": "RETRIEVER",
        "input.value": "Weather?",
        f"retrieval.documents.{document}id": "d1",
        f"retrieval.documents.{document}content": "rain",
        f"retrieval.documents.{document}score": 0.5,
        f"retrieval.documents.{document}metadata": '{"page": 3}',
    }
    span = read(retriever).span
    assert (span["kind"], span["tool_args"]) == ("retriever", "Weather?")
    assert json.loads(span["tool_result"]) == [{"content": "rain", "id": "d1", "metadata": {"page": 3}, "score": 0.5}]
    reranker = {
        "openinference.span.kind": "RERANKER",
        "reranker.query": "Weather?",
        "reranker.model_name": "r",
        "reranker.input_documents.0.document.id": "d1",
        "reranker.output_documents.0.document.id": "d1",
        "reranker.output_documents.0.document.score": 0.9,
    }
    span = read(reranker).span
    assert (span["kind"], span["model"]) == ("reranker", "r")
    assert json.loads(span["tool_args"]) == {"documents": [{"id": "d1"}], "query": "Weather?"}
    assert json.loads(span["tool_result"]) == [{"id": "d1", "score": 0.9}]
    embedding = {
        "openinference.span.kind": "EMBEDDING",
        "embedding.model_name": "e",
        "embedding.embeddings.0.embedding.text": "rain",
    }
    span = read(embedding).span
    assert (span["kind"], span["model"], json.loads(span["tool_args"])) == ("embedding", "e", ["rain"])
    agent = {"openinference.span.kind": "AGENT", "agent.name": "desk", "input.value": "Weather?", "output.value": "{}"}
    taken = read(agent)
    assert (taken.texts(taken.span["input_ids"]), taken.span["output_ids"]) == (["Weather?"], None)
    assert json.loads(taken.span["attributes"])["output.value"] == "{}"


def test_odd_values_in_openinference_cost_nothing_else(read: Callable[..., Any]) -> None:
    attributes = {
        "openinference.span.kind": "RETRIEVER",
        "retrieval.documents": [{"document": 7}, {"document": {"id": "d1"}}, 3],
        "annotations": [{"annotation": 7}, "x"],
        "llm.tools": 3,
    }
    taken = read(attributes)
    assert (taken.quarantine, taken.scores) == ([], [])
    assert json.loads(taken.span["tool_result"]) == [{"id": "d1"}]


def test_openinference_judgements_of_the_span_its_trace_and_its_session(read: Callable[..., Any]) -> None:
    one = {"name": "good", "score": 1, "annotator_kind": "HUMAN", "explanation": "clear"}
    attributes = {"openinference.span.kind": "LLM", "session.id": "s1"}
    for scope in ("", "trace.", "session."):
        attributes |= {f"{scope}annotations.0.annotation.{name}": value for name, value in one.items()}
    attributes |= {"evaluations.0.evaluation.name": "toxic", "evaluations.0.evaluation.label": "no"}
    taken = read(attributes)
    found = [(s["target_kind"], s["target_id"], s["name"], s["value"], s["label"], s["source"]) for s in taken.scores]
    span = taken.span
    assert found == [
        ("span", span["span_id"], "good", 1.0, None, "human"),
        ("span", span["span_id"], "toxic", None, "no", "llm"),
        ("trajectory", span["trace_id"], "good", 1.0, None, "human"),
        ("session", "s1", "good", 1.0, None, "human"),
    ]
    assert json.loads(taken.scores[0]["evidence"]) == {"explanation": "clear"}
    homeless = {"openinference.span.kind": "LLM", "session.annotations.0.annotation.name": "good"}
    assert read(homeless).scores == []
