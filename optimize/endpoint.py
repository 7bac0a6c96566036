"""Any OpenAI-compatible `/v1/chat/completions` as a ChatModel: concurrent, with retries, honest about failure."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import httpx

from tracemill.errors import ConfigError, EndpointError
from tracemill.optimize.pace import Pace
from tracemill.records import ChatRequest, Completion

_RETRY_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_DOWN_STATUS = frozenset({502, 503, 504})  # a gateway saying that nobody is behind it
_REFUSED_STATUS = frozenset({401, 403, 404})  # wrong key, wrong address, unknown model: no call will fare better
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",
    "Content-Type": "application/json",
    "User-Agent": "tracemill",
}
_BACKOFF_S = 0.25
_LONGEST_WAIT_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Try:
    completion: Completion
    down: bool = False
    """No server stood behind the address, none that answered, or one that turns everybody away."""


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
        backoff_s: float = _BACKOFF_S,
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
        self._concurrency = concurrency
        self._timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, 10.0))
        self._retries = retries
        self._logprobs = logprobs
        self._extra_body = dict(extra_body or {})
        self._prices = usd_per_million_tokens
        self._backoff_s = backoff_s
        self._sleep = sleep
        self._pace = Pace(concurrency, per_minute, sleep=sleep)

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        if not requests:
            return []
        workers = min(self._concurrency, len(requests))
        with (
            _Connections(self.url, self._headers, self._timeout) as http,
            ThreadPoolExecutor(workers, thread_name_prefix="chat") as pool,
        ):
            nobody_there, batch = threading.Event(), self._pace.batch()
            tries = list(pool.map(lambda request: self._call(http, request, nobody_there, batch), requests))
            if all(one.down for one in tries):
                raise EndpointError(self.url, tries[0].completion.error or "no answer")
        return [one.completion for one in tries]

    def each(self, requests: Iterable[ChatRequest], n: int, answered: Callable[[int, Completion], None]) -> None:
        """As `complete`, without a batch's end to wait for: `answered` hears of each answer and its request's place.

        A request is drawn when its call may begin, one at a time, at most `n` in all. Both are asked in threads; what
        they raise is raised here when the calls under way are done, and no further one begins. EndpointError as soon
        as the first `concurrency` calls failed so.
        """
        source, drawing, stop = enumerate(requests), threading.Lock(), threading.Event()
        nobody_there, batch, tries = threading.Event(), self._pace.batch(), list[_Try]()

        def work() -> None:
            try:
                while not stop.is_set():
                    with drawing:
                        place, request = next(source, (0, None))
                    if request is None:
                        return
                    try:
                        one = self._call(http, request, nobody_there, batch)
                    except BaseException as error:
                        answered(place, Completion(text=None, error=f"{type(error).__name__}: {error}"))
                        raise
                    tries.append(one)
                    answered(place, one.completion)
                    if one.down and len(tries) >= min(n, self._concurrency) and all(one.down for one in tries):
                        stop.set()
            except BaseException:
                stop.set()
                raise

        workers = min(self._concurrency, n)
        with (
            _Connections(self.url, self._headers, self._timeout) as http,
            ThreadPoolExecutor(max(1, workers), thread_name_prefix="chat") as pool,
        ):
            working = [pool.submit(work) for _ in range(workers)]
            try:
                wait(working)
            finally:
                stop.set()
        for one in working:
            one.result()
        if tries and all(one.down for one in tries):
            raise EndpointError(self.url, tries[0].completion.error or "no answer")

    def models(self) -> frozenset[str]:
        """Names that the server lists; empty where it gives no list."""
        url = self.url.removesuffix("/chat/completions") + "/models"
        try:
            answer = httpx.get(url, headers=self._headers, timeout=self._timeout, trust_env=False)
            return frozenset(str(model["id"]) for model in answer.json()["data"])
        except (httpx.TransportError, ValueError, KeyError, TypeError):
            return frozenset()

    def _call(self, http: "_Connections", request: ChatRequest, nobody_there: threading.Event, batch: int) -> _Try:
        body = self._body(request)
        failed = _Try(completion=Completion(text=None, error="not tried: the endpoint cannot be reached"), down=True)
        if nobody_there.is_set():  # a dead endpoint costs one series of retries, not one per call
            return failed
        refused = False
        for attempt in range(self._retries + 1):
            wait_s = self._backoff_s * 2**attempt
            try:
                with self._pace.turn(batch):
                    began = time.perf_counter_ns()
                    answer = http.post(body)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                reason = f"{type(error).__name__}: {error}".rstrip(": ")
                failed = _Try(completion=Completion(text=None, error=reason), down=True)
                refused, limited = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout), False
            else:
                refused, limited = False, answer.status_code == 429
                latency_ns = time.perf_counter_ns() - began
                if answer.status_code == 200:
                    return _Try(completion=self._read(answer, latency_ns))
                reason = f"HTTP {answer.status_code}: {_message(answer)}"
                failed = _Try(
                    completion=Completion(text=None, error=reason, latency_ns=latency_ns),
                    down=answer.status_code in _DOWN_STATUS | _REFUSED_STATUS,
                )
                if answer.status_code not in _RETRY_STATUS:
                    return failed
                wait_s = max(wait_s, _retry_after_s(answer))
            if attempt < self._retries:
                with self._pace.held() if limited else nullcontext():
                    self._sleep(min(wait_s, _LONGEST_WAIT_S))
        if refused:
            nobody_there.set()
        return failed

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        body: dict[str, Any] = {"model": request.model, "messages": list(request.messages), **request.params}
        if request.tools:
            body["tools"] = list(request.tools)
        if request.seed is not None:
            body["seed"] = request.seed
        if self._logprobs:
            body["logprobs"] = True
        return body | self._extra_body

    def _read(self, answer: httpx.Response, latency_ns: int) -> Completion:
        try:
            completion = read_completion(answer.json())
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            reason = f"not a chat completion ({type(error).__name__}: {error}): {answer.text[:200]}"
            return Completion(text=None, error=reason, latency_ns=latency_ns)
        cost_usd = None
        if self._prices is not None and completion.tokens_in is not None and completion.tokens_out is not None:
            cost_usd = (completion.tokens_in * self._prices[0] + completion.tokens_out * self._prices[1]) / 1e6
        return replace(completion, latency_ns=latency_ns, cost_usd=cost_usd)


class _Connections:
    """A connection for each thread that posts: a pool that many share looks through all of it for every call."""

    def __init__(self, url: str, headers: Mapping[str, str], timeout: httpx.Timeout) -> None:
        self._url = url
        self._parsed: httpx.URL | None = None
        self._headers = {**_HEADERS, **headers}
        self._extensions = {"timeout": timeout.as_dict()}
        # The certificate store is loaded only where it is used, and once: it costs more than a local call.
        self._verify = httpx.create_ssl_context(verify=url.startswith("https://"), trust_env=False)
        self._own = threading.local()
        self._open: list[httpx.HTTPTransport] = []

    def __enter__(self) -> "_Connections":
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._open:
            one.close()

    def post(self, body: Mapping[str, Any]) -> httpx.Response:
        """The answer, read. Raises what httpx raises."""
        if self._parsed is None:
            self._parsed = httpx.URL(self._url)
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        request = httpx.Request(
            "POST", self._parsed, headers=self._headers, content=content, extensions=self._extensions
        )
        own: httpx.HTTPTransport | None = getattr(self._own, "transport", None)
        if own is None:
            own = self._own.transport = httpx.HTTPTransport(verify=self._verify, trust_env=False)
            self._open.append(own)
        # Not by httpx.Client: what it does besides (cookies, redirects, hooks) is two fifths of a call.
        answer = own.handle_request(request)
        try:
            answer.read()
        finally:
            answer.close()
        return answer


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


def _message(answer: httpx.Response) -> str:
    try:
        error = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        return answer.text[:300]
    return str(error["message"] if isinstance(error, dict) and "message" in error else error)[:300]


def _retry_after_s(answer: httpx.Response) -> float:
    try:
        return float(answer.headers.get("retry-after", 0))
    except ValueError:  # a date: the doubling wait has to do
        return 0.0
