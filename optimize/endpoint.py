"""Any OpenAI-compatible `/v1/chat/completions` as a ChatModel: concurrent, with retries, honest about failure."""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import httpx

from tracemill.errors import ConfigError
from tracemill.optimize.calls import BACKOFF_S, Calls, Try
from tracemill.optimize.wire import Answer, Broken, UnreachableError, Wire
from tracemill.records import ChatRequest, Completion

_RETRY_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_DOWN_STATUS = frozenset({502, 503, 504})  # a gateway saying that nobody is behind it
_REFUSED_STATUS = frozenset({401, 403, 404})  # wrong key, wrong address, unknown model: no call will fare better
_HEADERS = {
    "Accept": "application/json",
    "Content-Type": "application/json",
    "User-Agent": "tracemill",
}


class HttpChatModel:
    """Chat completions over HTTP. `base_url` with or without its `/v1`.

    A call that fails after its retries is a Completion with `error`. EndpointError, naming the URL, where the endpoint
    is dead (no call of the batch reached a server) or refuses every call of it (401, 403, 404). Waits double from
    0.25 s on; a `Retry-After` is heeded up to 20 s. While a 429 is waited out, no other call begins. `concurrency`
    calls at once and `per_minute` count over all threads that share the object. Proxies of the environment are not
    used.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        concurrency: int = 8,
        timeout_s: float = 120.0,
        retries: int = 3,
        logprobs: bool = False,
        extra_body: Mapping[str, Any] | None = None,
        usd_per_million_tokens: tuple[float, float] | None = None,
        per_minute: float | None = None,
        backoff_s: float = BACKOFF_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`extra_body` goes into every request (vLLM: {"return_token_ids": true}); prices are (input, output)."""
        if not base_url.startswith(("http://", "https://")):
            raise ConfigError(f"endpoint {base_url!r} is no http(s) URL; write it like http://127.0.0.1:8000/v1")
        if concurrency < 1 or retries < 0:
            raise ConfigError(f"endpoint {base_url}: concurrency {concurrency} must be ≥ 1, retries {retries} ≥ 0")
        root = base_url.rstrip("/").removesuffix("/chat/completions")
        self.url = f"{root if root.endswith('/v1') else root + '/v1'}/chat/completions"
        self._headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, 10.0))
        self._wire = Wire(self.url, {**_HEADERS, **self._headers}, connect_s=min(timeout_s, 10.0), read_s=timeout_s)
        self._logprobs = logprobs
        self._extra_body = dict(extra_body or {})
        self._prices = usd_per_million_tokens
        self._calls = Calls(
            self.url,
            concurrency=concurrency,
            retries=retries,
            per_minute=per_minute,
            backoff_s=backoff_s,
            sleep=sleep,
        )

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        return self._calls.all(self._once, requests)

    def each(self, requests: Iterable[ChatRequest], n: int, answered: Callable[[int, Completion], None]) -> None:
        """As `complete`, and each answer is told when it is there (calls.Calls.each)."""
        self._calls.each(self._once, requests, n, answered)

    def models(self) -> frozenset[str]:
        """Names that the server lists; empty where it gives no list."""
        url = self.url.removesuffix("/chat/completions") + "/models"
        try:
            answer = httpx.get(url, headers=self._headers, timeout=self._timeout, trust_env=False)
            return frozenset(str(model["id"]) for model in answer.json()["data"])
        except (httpx.TransportError, ValueError, KeyError, TypeError):
            return frozenset()

    def _once(self, request: ChatRequest) -> Try:
        body = json.dumps(self._body(request), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        began = time.perf_counter_ns()
        try:
            answer = self._wire.post(body)
        except (*Broken, httpx.InvalidURL) as error:
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            nobody = isinstance(error, UnreachableError)
            return Try(completion=Completion(text=None, error=reason), down=True, again=True, unreachable=nobody)
        latency_ns, status = time.perf_counter_ns() - began, answer.status
        if status == 200:
            return Try(completion=self._read(answer, latency_ns))
        return Try(
            completion=Completion(text=None, error=f"HTTP {status}: {_message(answer)}", latency_ns=latency_ns),
            down=status in _DOWN_STATUS | _REFUSED_STATUS,
            again=status in _RETRY_STATUS,
            limited=status == 429,
            wait_s=_retry_after_s(answer),
        )

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        body: dict[str, Any] = {"model": request.model, "messages": list(request.messages), **request.params}
        if request.tools:
            body["tools"] = list(request.tools)
        if request.seed is not None:
            body["seed"] = request.seed
        if self._logprobs:
            body["logprobs"] = True
        return body | self._extra_body

    def _read(self, answer: Answer, latency_ns: int) -> Completion:
        try:
            completion = read_completion(answer.json())
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            reason = f"not a chat completion ({type(error).__name__}: {error}): {answer.text[:200]}"
            return Completion(text=None, error=reason, latency_ns=latency_ns)
        cost_usd = None
        if self._prices is not None and completion.tokens_in is not None and completion.tokens_out is not None:
            cost_usd = (completion.tokens_in * self._prices[0] + completion.tokens_out * self._prices[1]) / 1e6
        return replace(completion, latency_ns=latency_ns, cost_usd=cost_usd)


def read_completion(body: Mapping[str, Any]) -> Completion:
    """The first choice of an OpenAI-shaped answer, with vLLM's token ids and the log-probabilities where present."""
    choice = body["choices"][0]
    message = choice["message"]
    usage = body.get("usage") or {}
    token_ids = choice.get("token_ids")
    prompt_ids = body.get("prompt_token_ids")
    content = (choice.get("logprobs") or {}).get("content")
    tokens_in, tokens_out = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if tokens_in is None and prompt_ids is not None:
        tokens_in = len(prompt_ids)
    if tokens_out is None and token_ids is not None:
        tokens_out = len(token_ids)
    return Completion(
        text=message.get("content"),
        tool_calls=tuple(message.get("tool_calls") or ()),
        finish_reason=choice.get("finish_reason"),
        output_token_ids=None if token_ids is None else tuple(token_ids),
        output_logprobs=None if content is None else tuple(float(token["logprob"]) for token in content),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
    )


def _message(answer: Answer) -> str:
    try:
        error = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        return answer.text[:300]
    return str(error["message"] if isinstance(error, dict) and "message" in error else error)[:300]


def _retry_after_s(answer: Answer) -> float:
    try:
        return float(answer.headers.get("retry-after", 0))
    except ValueError:  # a date: the doubling wait has to do
        return 0.0
