"""Agent Lightning 0.x: annotations and rewards as spans, linked to the call that they judge.

Its model calls speak OpenLLMetry or GenAI; resource attributes name rollout and attempt.
"""

from collections.abc import Mapping
from typing import Any

from tracemill.ingest.attributes import Attributes, as_float, hex_id, take, take_prefixed, take_text, unflatten
from tracemill.ingest.dialects.event import Event
from tracemill.ingest.dialects.words import Words
from tracemill.ingest.documents import unwrap
from tracemill.ingest.reader import About, Item, RawScore, RawSpan

_OWN = ("agentlightning.reward.", "agentlightning.message.", "agentlightning.object.", "agentlightning.operation.")
_NAMES = tuple(
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
    return (span.name or "").startswith(_NAMES) or words.begin(*_OWN) or _old_reward(attributes) is not None


def fill(span: RawSpan, attributes: Attributes, events: list[Event]) -> list[Item]:
    links = _listed(attributes, "agentlightning.link.")
    rewards = _rewards(span, attributes)
    span.kind = "evaluator" if rewards else "event"
    operation = take_text(attributes, "agentlightning.operation.name")
    if operation is not None or span.name == "agentlightning.operation":
        span.kind = "chain"
        span.name = operation or span.name
        span.tool_args = unwrap(take(attributes, "agentlightning.operation.input"))
        span.tool_result = unwrap(take(attributes, "agentlightning.operation.output"))
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
            name=str(item.get("name") or "reward"),
            value=as_float(item.get("value")),
            source="env",
            # The first reward is the one that counts; the others are its dimensions.
            evidence={"primary": index == 0} if len(found) > 1 else None,
            at=span.end_ns or span.start_ns,
        )
        for index, item in enumerate(found)
    ]


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
