"""Token counts as providers and platforms write them, in the lake's convention: input counts cached tokens, once."""

from collections.abc import Mapping
from typing import Any

from tracemill.ingest.attributes import as_int
from tracemill.ingest.reader import RawSpan


def fill_usage(span: RawSpan, usage: Any) -> None:
    """Fills what the span does not know yet from a usage object of OpenAI, Anthropic, Gemini, MLflow or the like."""
    if not isinstance(usage, Mapping):
        return
    asked = _inner(usage, "prompt_tokens_details", "input_tokens_details", "inputTokenDetails", "input_token_details")
    said = _inner(
        usage, "completion_tokens_details", "output_tokens_details", "outputTokenDetails", "output_token_details"
    )
    tokens_in, tokens_out = _count(usage, _IN), _count(usage, _OUT)
    thoughts = _count(usage, ("thoughts_token_count", "thoughtsTokenCount"))
    read = _known(_count(usage, _READ), _count(asked, _READ))
    write = _known(_count(usage, _WRITE), _count(asked, _WRITE))
    apart = any(name in usage for name in ("cache_creation_input_tokens", "cache_read_input_tokens"))
    if tokens_in is not None and _is_apart(usage, tokens_in, tokens_out, (read or 0) + (write or 0), apart):
        tokens_in += (read or 0) + (write or 0)
    if thoughts is not None and tokens_out is not None:  # Gemini counts thoughts beside the answer
        tokens_out += thoughts
    reasoning = _known(_count(usage, _REASONING), _count(said, _REASONING))
    span.tokens_in = _known(span.tokens_in, tokens_in)
    span.tokens_out = _known(span.tokens_out, tokens_out)
    span.tokens_cache_read = _known(span.tokens_cache_read, read)
    span.tokens_cache_write = _known(span.tokens_cache_write, write)
    span.tokens_reasoning = _known(span.tokens_reasoning, _known(reasoning, thoughts))


def _is_apart(usage: Mapping[str, Any], tokens_in: int, tokens_out: int | None, cached: int, anthropic: bool) -> bool:
    """Whether cached tokens are not among the input: the total tells, else Anthropic's own names do."""
    if not cached:
        return False
    total = _count(usage, ("total_tokens", "totalTokens", "total"))
    if total is not None and tokens_out is not None:
        return total == tokens_in + cached + tokens_out
    return cached > tokens_in or (anthropic and "prompt_tokens" not in usage)


def _count(usage: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((count for name in names if (count := as_int(usage.get(name))) is not None), None)


def _inner(usage: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    return next((usage[name] for name in names if isinstance(usage.get(name), Mapping)), {})


def _known(first: int | None, second: int | None) -> int | None:
    return second if first is None else first


_IN = (
    "prompt_tokens",
    "input_tokens",
    "prompt_token_count",
    "promptTokenCount",
    "inputTokens",
    "promptTokens",
    "input",
)
_OUT = (
    *("completion_tokens", "output_tokens", "candidates_token_count", "candidatesTokenCount"),
    *("outputTokens", "completionTokens", "output"),
)
_READ = (
    *("cache_read_input_tokens", "cached_tokens", "cached_content_token_count", "cachedContentTokenCount"),
    *("cachedInputTokens", "cacheReadTokens", "cache_read", "input_cached_tokens", "input_cache_read"),
)
_WRITE = ("cache_creation_input_tokens", "cacheWriteTokens", "cache_creation", "input_cache_creation", "cache_write")
_REASONING = ("reasoning_tokens", "reasoningTokens", "reasoning", "output_reasoning_tokens", "output_reasoning")
