"""Models of providers by LiteLLM's names ("anthropic/…", "bedrock/…", "openai/…") as a ChatModel. Needs litellm.

What LiteLLM offers over many providers' own APIs: requests and errors in OpenAI's shape, and prices.
"""

import os
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tracemill.errors import ConfigError, MissingExtraError
from tracemill.optimize.calls import BACKOFF_S, Calls, Try
from tracemill.records import ChatRequest, Completion


class ProviderModel:
    """Chat completions of a provider. Keys are those that LiteLLM reads from the environment, or `api_key`.

    A call that fails after its retries is a Completion with `error`. EndpointError, naming the model, where every call
    of a batch found nobody, no model of that name, or a key that is turned away. `base_url` overrides the provider's.
    """

    def __init__(
        self,
        model: str,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        concurrency: int = 8,
        timeout_s: float = 120.0,
        retries: int = 3,
        per_minute: float | None = None,
    ) -> None:
        if "/" not in model:
            raise ConfigError(f"model {model!r} names no provider: write it like openai/gpt-5.2, or give a base_url")
        self.model = model
        self._own = {"api_key": api_key, "base_url": base_url, "timeout": timeout_s}
        self._calls = Calls(
            model,
            concurrency=concurrency,
            retries=retries,
            per_minute=per_minute,
            backoff_s=BACKOFF_S,
            sleep=time.sleep,
        )
        self._litellm = _litellm()

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        return self._calls.all(self._once, requests)

    def each(self, requests: Iterable[ChatRequest], n: int, answered: Callable[[int, Completion], None]) -> None:
        """As `complete`, and each answer is told when it is there (calls.Calls.each)."""
        self._calls.each(self._once, requests, n, answered)

    def models(self) -> frozenset[str]:
        """A provider's list is not asked for."""
        return frozenset()

    def _once(self, request: ChatRequest) -> Try:
        errors = self._litellm.exceptions
        lasting = (errors.AuthenticationError, errors.PermissionDeniedError, errors.NotFoundError)
        refused = (errors.BadRequestError, *lasting)  # asking again changes nothing
        down = (errors.APIConnectionError, errors.ServiceUnavailableError, errors.BadGatewayError, *lasting)
        began = time.perf_counter_ns()
        try:
            answer = self._litellm.completion(**self._asked(request))
        except Exception as error:  # noqa: BLE001 - LiteLLM raises what providers' clients raise, too
            return Try(
                completion=Completion(text=None, error=f"{type(error).__name__}: {error}"[:300]),
                # Of some providers a refused connection comes as an error of their server.
                down=isinstance(error, down) or "connection error" in str(error).lower(),
                again=not isinstance(error, refused),
                limited=isinstance(error, errors.RateLimitError),
            )
        try:
            return Try(completion=self._read(answer, time.perf_counter_ns() - began))
        except (AttributeError, IndexError, TypeError, ValueError) as error:  # such as no choice: refused content
            said = f"an answer that is none of chat's: {type(error).__name__}: {error}"[:300]
            return Try(completion=Completion(text=None, error=said))

    def _asked(self, request: ChatRequest) -> dict[str, Any]:
        asked: dict[str, Any] = {"model": request.model, "messages": list(request.messages), "max_retries": 0}
        asked |= {key: value for key, value in self._own.items() if value is not None}
        if request.tools:
            # Its look for tools that are MCP servers imports a package that it does not depend on.
            asked |= {"tools": list(request.tools), "_skip_mcp_handler": True}
        if request.seed is not None:
            asked["seed"] = request.seed
        return asked | dict(request.params)

    def _read(self, answer: Any, latency_ns: int) -> Completion:
        choice, usage = answer.choices[0], getattr(answer, "usage", None)
        try:
            cost = float(self._litellm.completion_cost(completion_response=answer))
        except Exception:  # noqa: BLE001 - a model without a known price has none
            cost = None
        return Completion(
            text=choice.message.content,
            tool_calls=tuple(call.model_dump() for call in choice.message.tool_calls or ()),
            finish_reason=choice.finish_reason,
            tokens_in=getattr(usage, "prompt_tokens", None),
            tokens_out=getattr(usage, "completion_tokens", None),
            cost_usd=cost,
            latency_ns=latency_ns,
        )


def _litellm() -> Any:
    # Else importing it downloads its table of prices.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "true")
    try:
        import litellm
    except ImportError as error:
        raise MissingExtraError("prompts", "asking a provider's model") from error
    # Pydantic's, about LiteLLM's own types.
    warnings.filterwarnings("ignore", message=r"Item '\w+' on TypedDict class")
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    return litellm
