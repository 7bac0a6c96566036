"""A DSPy language model over any ChatModel, so that every call of a search goes through one cache and one ledger.

Needs dspy. Text in, text out: tools, images and streaming are not for prompt models.
"""

from typing import Any

import dspy
from dspy import lm15

from tracemill.optimize.search import PromptModel
from tracemill.protocols import ChatModel
from tracemill.records import ChatRequest

_FINISH = {"stop": "stop", "length": "length", "tool_calls": "tool_call", "content_filter": "content_filter"}


class ChatModelEngine:
    """dspy's engine contract (`complete(Request) -> Response`) over a ChatModel."""

    def __init__(self, chat: ChatModel, name: str) -> None:
        self._chat = chat
        self._name = name

    def __deepcopy__(self, memo: dict[int, Any]) -> "ChatModelEngine":
        return self  # engines are borrowed: a copied LM calls the same model

    def complete(self, request: lm15.Request) -> lm15.Response:
        """Raises lm15.ServerError where the call failed; what the ChatModel raises is the cause of DSPy's LMError."""
        asked = ChatRequest(
            model=self._name,
            messages=tuple(_messages(request)),
            params=_params(request.config),
            seed=request.config.seed,
        )
        (done,) = self._chat.complete([asked])
        if done.error is not None:
            raise lm15.ServerError(done.error)
        total = None if done.tokens_in is None or done.tokens_out is None else done.tokens_in + done.tokens_out
        return lm15.Response(
            id=None,
            model=request.model,
            message=lm15.Message.assistant([lm15.TextPart(done.text or "")]),
            finish_reason=_FINISH.get(done.finish_reason or "stop", "stop"),
            usage=lm15.Usage(input_tokens=done.tokens_in, output_tokens=done.tokens_out, total_tokens=total),
        )

    def close(self) -> None:
        """Nothing of its own to close."""


def language_model(prompt_model: PromptModel, **settings: Any) -> dspy.LM:
    """The prompt model as a `dspy.LM`. DSPy's own cache and retries are off: the ChatModel has both."""
    engine = ChatModelEngine(prompt_model.chat, prompt_model.name)
    params = {**prompt_model.params, **settings}
    return dspy.LM(f"tracemill/{prompt_model.name}", engine=engine, cache=False, num_retries=0, **params)


def _messages(request: lm15.Request) -> list[dict[str, Any]]:
    messages = []
    if request.system is not None:
        system = request.system
        text = system if isinstance(system, str) else "".join(part.text for part in system)
        messages.append({"role": "system", "content": text})
    for message in request.messages:
        text = "".join(part.text for part in message.parts if part.type == "text")
        messages.append({"role": message.role, "content": text})
    return messages


def _params(config: lm15.Config) -> dict[str, Any]:
    params = {
        "temperature": config.temperature,
        "max_tokens": config.max_tokens,
        "top_p": config.top_p,
        "stop": list(config.stop) or None,
        "response_format": config.response_format,
        "frequency_penalty": config.frequency_penalty,
        "presence_penalty": config.presence_penalty,
    }
    return {name: value for name, value in params.items() if value is not None}
