"""A conversation as the tokens that a model reads: its own chat template, which must be able to write all of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from tracemill.chat import as_text


class UnwritableError(ValueError):
    """The chat template cannot write these messages; what it would leave out is part of what production sent."""


def tokens(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
) -> tuple[int, ...]:
    """Token ids of the prompt, with the opening of the answer.

    Raises UnwritableError where the template fails, or leaves out tool calls, which templates of models without tools
    do silently.
    """
    from jinja2 import TemplateError

    # The OpenAI shape has no text beside tool calls; templates read it all the same.
    said = [
        {**message, "content": "" if message.get("content") is None else message["content"]} for message in messages
    ]
    options = {"tools": [dict(tool) for tool in tools]} if tools else {}
    try:
        text = tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=False, **options)
        ids = tokenizer.apply_chat_template(said, add_generation_prompt=True, return_dict=False, **options)
    except (TemplateError, TypeError, KeyError) as error:
        raise UnwritableError(str(error)) from error
    for message in said:
        for call in message.get("tool_calls") or ():
            name = as_text((call.get("function") or {}).get("name"))
            if name not in text:
                raise UnwritableError(f"it leaves out the call of the tool {name!r}")
    return tuple(ids)
