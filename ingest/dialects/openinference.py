"""OpenInference (Arize, Phoenix): flat indexed attributes, nested objects or data frame columns.

Source: openinference-semantic-conventions 0.1.
"""

from collections.abc import Mapping
from typing import Any

from tracemill.ingest.attributes import (
    Attributes,
    as_float,
    take,
    take_float,
    take_int,
    take_prefixed,
    take_text,
    unflatten,
)
from tracemill.ingest.content.exchanges import answered, asked
from tracemill.ingest.content.messages import canonical_list, finish_reason
from tracemill.ingest.dialects.event import Event
from tracemill.ingest.dialects.words import Words
from tracemill.ingest.documents import unwrap
from tracemill.ingest.reader import About, Item, Message, RawScore, RawSpan

_KINDS = ("llm", "tool", "agent", "chain", "retriever", "embedding", "reranker", "guardrail", "evaluator")
_SOURCES = {"HUMAN": "human", "LLM": "llm", "CODE": "code"}
_SCOPES = {"": "span", "trace.": "trajectory", "session.": "session"}
_DICTS = ("llm.prompt_template.variables", "metadata", "llm.invocation_parameters")
"""Objects that are values, not names of attributes."""

ABOUT = About(
    title="OpenInference (Arize, Phoenix)",
    maps="Messages, tools, parameters, tokens, cost, prompt template and variables, retrieved documents; annotations "
    "and evaluations of the span, its trace and its session as scores",
    lacks="Tool spans do not name the call they answer",
)


def speaks(span: RawSpan, attributes: Mapping[str, Any], words: Words) -> bool:
    return (
        "openinference.span.kind" in attributes
        or isinstance(attributes.get("openinference"), Mapping)
        or words.begin("llm.input_messages", "llm.output_messages")
    )


def fill(span: RawSpan, attributes: Attributes, events: list[Event]) -> list[Item]:
    own_kind = (take_text(attributes, "openinference.span.kind") or "llm").lower()
    span.kind = own_kind if own_kind in _KINDS else "chain"
    if span.kind != own_kind and own_kind != "unknown":
        attributes["openinference.span.kind"] = own_kind.upper()
    span.agent_name = take_text(attributes, "agent.name", "gen_ai.agent.name")
    span.provider = take_text(attributes, "llm.provider", "llm.system")
    _model(span, attributes)
    _usage(span, attributes)
    template = take(attributes, "llm.prompt_template.template")
    if template is not None:
        attributes["llm.prompt_template.template"] = template
    span.prompt_name = take_text(attributes, "prompt.id")
    span.prompt_version = take_text(attributes, "llm.prompt_template.version")
    span.prompt_variables = unwrap(take(attributes, "llm.prompt_template.variables"))
    metadata = unwrap(attributes.get("metadata"))
    if isinstance(metadata, Mapping):
        attributes["metadata"] = metadata
    reason = take_text(attributes, "llm.finish_reason")
    span.finish_reasons = [reason] if reason is not None else None
    if span.kind in ("llm", "agent"):
        _messages(span, attributes)
    elif span.kind == "tool":
        span.tool_name = take_text(attributes, "tool.name") or span.name
        span.tool_call_id = take_text(attributes, "tool_call.id", "tool.id")
        schema = take(attributes, "tool.parameters", "tool.json_schema")
        given = take(attributes, "input.value")
        span.tool_args = unwrap(schema if given is None else given)
        if given is not None and schema is not None and unwrap(schema) != span.tool_args:
            attributes["tool.parameters"] = schema
        span.tool_result = take(attributes, "output.value")
        _drop_types(attributes)
    else:
        _step(span, attributes)
    return _judgements(span, attributes)


def flatten(attributes: Attributes) -> None:
    """Nested objects back into dotted names, lists left as they are."""
    for name in [name for name, value in attributes.items() if isinstance(value, Mapping) and name not in _DICTS]:
        if name in _WORDS:
            for path, value in _leaves(attributes.pop(name), name):
                attributes.setdefault(path, value)


def _leaves(value: Any, path: str) -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping) or path in _DICTS:
        return [(path, value)]
    return [leaf for name, inner in value.items() for leaf in _leaves(inner, f"{path}.{name}")]


def _model(span: RawSpan, attributes: Attributes) -> None:
    params = unwrap(take(attributes, "llm.invocation_parameters"))
    span.params = dict(params) if isinstance(params, dict) else None
    wanted = span.params.pop("model", None) if span.params else None
    span.model_requested = take_text(attributes, "llm.request.model_name") or (None if wanted is None else str(wanted))
    span.model = take_text(attributes, "llm.response.model_name", "llm.model_name") or span.model_requested
    if span.kind == "embedding":
        span.model = take_text(attributes, "embedding.model_name") or span.model
    if span.kind == "reranker":
        span.model = take_text(attributes, "reranker.model_name") or span.model
    span.model_requested = span.model_requested or span.model


def _usage(span: RawSpan, attributes: Attributes) -> None:
    span.tokens_in = take_int(attributes, "llm.token_count.prompt")
    span.tokens_out = take_int(attributes, "llm.token_count.completion")
    details = "llm.token_count.prompt_details."
    span.tokens_cache_read = take_int(attributes, f"{details}cache_read", f"{details}cache_input")
    span.tokens_cache_write = take_int(attributes, f"{details}cache_write")
    span.tokens_reasoning = take_int(attributes, "llm.token_count.completion_details.reasoning")
    cached = (span.tokens_cache_read or 0) + (span.tokens_cache_write or 0)
    if span.tokens_in is not None and cached > span.tokens_in:  # Anthropic's numbers, passed through
        span.tokens_in += cached
    span.cost_usd = take_float(attributes, "llm.cost.total")


def _messages(span: RawSpan, attributes: Attributes) -> None:
    span.input = _indexed(span, attributes, "llm.input_messages")
    span.output = _indexed(span, attributes, "llm.output_messages")
    if span.kind == "agent":
        said, told = _spoken(attributes, "input.value", "user"), _spoken(attributes, "output.value", "assistant")
        span.input, span.output = span.input or said, span.output or told
        return
    if span.input is None:
        prompts = [p.get("prompt", p).get("text") for p in _listed(attributes, "llm.prompts") if isinstance(p, dict)]
        value = take(attributes, "input.value")
        found = None if prompts else asked(value)
        span.input = canonical_list(prompts or value) if found is None else found.messages
    choices = [c.get("completion", c).get("text") for c in _listed(attributes, "llm.choices") if isinstance(c, dict)]
    value = unwrap(take(attributes, "output.value"))
    answer = answered(value)
    if span.output is None:
        found = None if choices else answer
        span.output = canonical_list(choices or value, "assistant") if found is None else found.messages
    reason = finish_reason(value)
    if span.finish_reasons is None and reason is not None:
        span.finish_reasons = [reason]
    elif span.finish_reasons is None and answer is not None:
        span.finish_reasons = answer.finish_reasons or None
    # The messages say it already, structured.
    _drop_types(attributes)
    attributes.pop("input.value", None)
    attributes.pop("output.value", None)
    tools = [
        unwrap(tool.get("tool", tool).get("json_schema")) if isinstance(tool, dict) else None
        for tool in _listed(attributes, "llm.tools")
    ]
    span.tools = [tool for tool in tools if tool is not None] or None


def _spoken(attributes: Attributes, name: str, role: str) -> list[Message] | None:
    """What an agent was told or said, where its value is plain text or messages; else it stays where it is."""
    value = attributes.get(name)
    found = asked(value) if role == "user" else answered(value)
    if found is None and not (isinstance(value, str) and value and unwrap(value) is value):
        return None
    attributes.pop(name)
    attributes.pop(name.replace(".value", ".mime_type"), None)
    return canonical_list(value, role) if found is None else found.messages


def _step(span: RawSpan, attributes: Attributes) -> None:
    """Retrievals, rerankings and embeddings: what was looked for, and what was found."""
    if span.kind == "retriever":
        documents = _listed(attributes, "retrieval.documents")
        span.tool_args = unwrap(take(attributes, "input.value"))
        span.tool_result = _documents(documents) or unwrap(take(attributes, "output.value"))
    elif span.kind == "reranker":
        given = _documents(_listed(attributes, "reranker.input_documents"))
        query = take(attributes, "reranker.query") or unwrap(take(attributes, "input.value"))
        span.tool_args = {"query": query, "documents": given} if given else query
        span.tool_result = _documents(_listed(attributes, "reranker.output_documents")) or unwrap(
            take(attributes, "output.value")
        )
    elif span.kind == "embedding":
        found = [
            item.get("embedding", item).get("text")
            for item in _listed(attributes, "embedding.embeddings")
            if isinstance(item, dict)
        ]
        span.tool_args = [text for text in found if text is not None] or unwrap(take(attributes, "input.value"))


def _documents(found: list[Any]) -> list[dict[str, Any]]:
    held = [item.get("document", item) for item in found if isinstance(item, dict)]
    documents = [document for document in held if isinstance(document, dict)]
    for document in documents:
        if "metadata" in document:
            document["metadata"] = unwrap(document["metadata"])
    return documents


def _drop_types(attributes: Attributes) -> None:
    for name in ("input.mime_type", "output.mime_type"):
        attributes.pop(name, None)


def _listed(attributes: Attributes, name: str) -> list[Any]:
    """A list of objects: indexed names, a list of objects, or one whose objects have dotted names."""
    return _gathered(attributes, name)[0]


def _gathered(attributes: Attributes, name: str) -> tuple[list[Any], bool]:
    whole = unwrap(take(attributes, name))
    flat = take_prefixed(attributes, f"{name}.")
    gaps = False
    if flat:
        whole, gaps = unflatten(flat)
    elif isinstance(whole, list):
        whole = [unflatten(_known(item))[0] if isinstance(item, Mapping) else item for item in whole]
    return (whole, gaps) if isinstance(whole, list) else ([], False)


def _known(item: Mapping[str, Any]) -> dict[str, Any]:
    """Tables hold a null where an object has no such field."""
    return {name: _without(value) for name, value in item.items() if value is not None}


def _without(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _known(value)
    if isinstance(value, list):
        return [unflatten(_known(item))[0] if isinstance(item, Mapping) else item for item in value]
    return value


def _indexed(span: RawSpan, attributes: Attributes, name: str) -> list[Message] | None:
    found, gaps = _gathered(attributes, name)
    if gaps:
        span.flags.append("truncated")
    if not found:
        return None
    return canonical_list([_message(item) for item in found], "assistant" if "output" in name else "user")


def _message(item: Any) -> Any:
    message = item.get("message", item) if isinstance(item, Mapping) else item
    if not isinstance(message, Mapping):
        return message
    plain = {name: message[name] for name in ("role", "name", "content", "tool_call_id") if name in message}
    contents = message.get("contents")
    if isinstance(contents, list):
        plain["content"] = [_content(c.get("message_content", c)) for c in contents if isinstance(c, Mapping)]
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        plain["tool_calls"] = [_call(c.get("tool_call", c)) for c in calls if isinstance(c, Mapping)]
    if message.get("function_call_name") is not None:
        arguments = unwrap(message.get("function_call_arguments_json"))
        plain["function_call"] = {"name": message["function_call_name"], "arguments": arguments}
    return plain


def _content(content: Any) -> Any:
    if not isinstance(content, Mapping):
        return content
    kind = content.get("type")
    if kind == "image":
        image = content.get("image")
        inner = image.get("image", image) if isinstance(image, Mapping) else image
        url = inner.get("url") if isinstance(inner, Mapping) else inner
        return {"type": "image_url", "image_url": {"url": url}}
    if kind == "reasoning":
        return {"type": "reasoning", "content": content.get("text") or ""}
    if kind == "tool_use":
        return dict(content)
    return {"type": kind or "text", "text": content.get("text")} if "text" in content else dict(content)


def _call(call: Any) -> Any:
    if not isinstance(call, Mapping):
        return call
    function = call.get("function")
    inner = function if isinstance(function, Mapping) else {}
    # Flat attributes hold arguments as JSON text only because they can hold nothing else; `{}` is left out.
    arguments = inner.get("arguments")
    return {
        "id": call.get("id"),
        "function": {"name": inner.get("name"), "arguments": {} if arguments is None else unwrap(arguments)},
    }


def _judgements(span: RawSpan, attributes: Attributes) -> list[Item]:
    scores: list[Item] = []
    targets = {"span": span.span_id, "trajectory": span.trace_id, "session": span.session_id}
    for scope, target_kind in _SCOPES.items():
        target = targets[target_kind]
        for name, one in (("annotations", "annotation"), ("evaluations", "evaluation")):
            for item in _listed(attributes, f"{scope}{name}") if target is not None else ():
                said = item.get(one, item) if isinstance(item, dict) else {}
                if isinstance(said, dict) and said.get("name"):
                    scores.append(_score(said, one, target_kind, str(target), span.end_ns or span.start_ns))
    return scores


def _score(said: dict[str, Any], one: str, target_kind: str, target_id: str, at: int | None) -> RawScore:
    label = said.get("label")
    rest = {k: unwrap(v) for k, v in said.items() if k not in ("name", "score", "label", "annotator_kind")}
    return RawScore(
        target_kind=target_kind,
        target_id=target_id,
        name=str(said["name"]),
        value=as_float(said.get("score")),
        label=None if label is None else str(label),
        source=_SOURCES.get(str(said.get("annotator_kind")).upper(), "llm" if one == "evaluation" else "human"),
        evidence=rest or None,
        at=at,
    )


_WORDS = frozenset(
    (
        *("openinference", "llm", "input", "output", "retrieval", "reranker", "embedding", "tool", "tool_call"),
        *("session", "user", "tag", "prompt", "agent", "graph", "annotations", "evaluations", "trace", "document"),
    )
)
