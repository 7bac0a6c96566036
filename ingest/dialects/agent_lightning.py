"""Agent Lightning 0.x: annotations and rewards as spans, linked to the call that they judge.

Its model calls speak OpenLLMetry or GenAI; resource attributes name rollout and attempt.
"""

from collections.abc import Mapping
from typing import Any

from tracemill.ingest.attributes import Attributes, as_float, hex_id, take, take_prefixed, take_text, unflatten
from tracemill.ingest.content.messages import canonical
from tracemill.ingest.dialects.event import Event
from tracemill.ingest.dialects.words import Words
from tracemill.ingest.documents import unwrap
from tracemill.ingest.providers.openai import chat_answer, chat_request
from tracemill.ingest.reader import About, Item, RawScore, RawSpan

_OWN = ("agentlightning.reward.", "agentlightning.message.", "agentlightning.object.", "agentlightning.operation.")
NAMES = tuple(
    f"agentlightning.{kind}"
    for kind in ("annotation", "message", "object", "exception", "operation", "reward", "virtual")
)
_OLD = ("agentops.task.output", "agentops.entity.output")

ABOUT = About(
    title="Agent Lightning 0.x",
    maps="Rewards as scores of the linked call, else of the trajectory; operations, messages and objects as steps",
    lacks="Who gave a reward and why",
)


def speaks(span: RawSpan, attributes: Mapping[str, Any], words: Words) -> bool:
    return (span.name or "").startswith(NAMES) or words.begin(*_OWN) or _old_reward(attributes) is not None


def fill(span: RawSpan, attributes: Attributes, events: list[Event]) -> list[Item]:
    links = _listed(attributes, "agentlightning.link.")
    rewards = _rewards(span, attributes)
    span.kind = "evaluator" if rewards else "event"
    operation = take_text(attributes, "agentlightning.operation.name")
    given, gave = (_whole(attributes, f"agentlightning.operation.{side}") for side in ("input", "output"))
    if isinstance(given, dict) and isinstance(gave, dict) and _listing(given, "messages") and _listing(gave, "choices"):
        _call(span, given, gave)
    elif operation is not None or span.name == "agentlightning.operation" or given is not None or gave is not None:
        # What a reward function does inside is the judge's, not the agent's.
        span.kind = "evaluator" if rewards or operation == "agentlightning.reward" else "chain"
        span.name = operation or span.name
        span.tool_args, span.tool_result = given, gave
        if attributes.get("type") == "agent" and isinstance(given, dict) and isinstance(given.get("name"), str):
            span.kind, span.agent_name = "agent", given["name"]
    tags = [str(tag) for tag in _listed(attributes, "agentlightning.tag.")]
    if tags:
        attributes["agentlightning.tags"] = tags
    target = _target(span, links)
    if rewards and links:
        attributes["agentlightning.links"] = links
    for reward in rewards:
        reward.target_kind, reward.target_id = target
    return list(rewards)


def _rewards(span: RawSpan, attributes: Attributes) -> list[RawScore]:
    old = _old_reward(attributes)
    if old is not None:
        for name in _OLD:
            attributes.pop(name, None)
    plain = take(attributes, "reward") if span.name in ("agentlightning.annotation", "agentlightning.reward") else None
    found = [item for item in _listed(attributes, "agentlightning.reward.") if isinstance(item, Mapping)]
    if not found and (value := as_float(old if plain is None else plain)) is not None:
        found = [{"name": "reward", "value": value}]
    return [
        RawScore(
            target_kind="trajectory",
            target_id=span.trace_id,
            name=_named(item.get("name")),
            value=as_float(item.get("value")),
            source="env",
            # The first reward is the one that counts; the others are its dimensions.
            evidence={"span_id": span.span_id, **({"primary": index == 0} if len(found) > 1 else {})},
            at=span.end_ns or span.start_ns,
        )
        for index, item in enumerate(found)
    ]


def _whole(attributes: Attributes, name: str) -> Any:
    """The value of an attribute, which Weave's calls spread over one attribute for each leaf."""
    spread = take_prefixed(attributes, f"{name}.")
    plain = unwrap(take(attributes, name))
    return unflatten(spread)[0] if spread and plain is None else plain


def _listing(found: Mapping[str, Any], name: str) -> bool:
    return isinstance(found.get(name), list) and all(isinstance(item, Mapping) for item in found[name])


def _call(span: RawSpan, request: dict[str, Any], answer: dict[str, Any]) -> None:
    """A call of the OpenAI API as Weave traces it: the request and the answer as they were."""
    span.kind = "llm"
    span.input = [message for item in request["messages"] for message in canonical(item)] or None
    chat_request(span, {}, {name: value for name, value in request.items() if name != "self"}, {}, request)
    tokens = span.input_token_ids, span.output_token_ids, span.output_logprobs
    ids = answer.get("response_token_ids")
    if isinstance(ids, list) and len(ids) == 1 and isinstance(ids[0], list):
        answer = {**answer, "response_token_ids": ids[0]}  # one list for each choice
    for choice in answer["choices"]:
        more = choice.get("provider_specific_fields")
        if isinstance(more, Mapping) and "token_ids" not in choice and isinstance(more.get("token_ids"), list):
            choice["token_ids"] = more["token_ids"]
    chat_answer(span, answer)
    if tokens[1] is not None:
        span.input_token_ids, span.output_token_ids, span.output_logprobs = tokens


def _named(name: Any) -> str:
    """A reward of one dimension is called "primary" by the library, not by whoever gave it."""
    return "reward" if name in (None, "", "primary") else str(name)


def _old_reward(attributes: Mapping[str, Any]) -> float | None:
    for name in _OLD:
        value = unwrap(attributes.get(name))
        if isinstance(value, Mapping) and value.get("type") == "reward":
            return as_float(value.get("value"))
    return None


def _target(span: RawSpan, links: list[Any]) -> tuple[str, str]:
    """What the links point to: a span or a response; without links the trajectory."""
    for link in links:
        if not isinstance(link, Mapping) or link.get("value_match") is None:
            continue
        key, value = link.get("key_match"), str(link["value_match"])
        if key == "span_id":
            return "span", hex_id(value, 8) or value
        if key == "gen_ai.response.id":
            return "response", value
    return "trajectory", span.trace_id


def _listed(attributes: Attributes, prefix: str) -> list[Any]:
    found, _ = unflatten(take_prefixed(attributes, prefix))
    return found if isinstance(found, list) else []
