"""What replays are paid with: calls cached by content, under a budget, with every paid answer kept."""

import json
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import md5
from math import ceil
from typing import Protocol, runtime_checkable

from tracemill import client
from tracemill.errors import BudgetError, ConfigError
from tracemill.ids import canonical_json
from tracemill.optimize.artifact import PRODUCTION_SOURCE, pool_of
from tracemill.protocols import ChatModel
from tracemill.records import Artifact, Case, ChatMessage, ChatRequest, Completion


class ReplayCache(Protocol):
    """Where answers are kept between runs: replay_key -> JSON of a Completion."""

    def get(self, keys: Sequence[str]) -> Mapping[str, str]:
        """The known ones among `keys`."""
        ...

    def put(self, rows: Mapping[str, str], model: str, now_ns: int, sources: Mapping[str, Collection[str]]) -> object:
        """Taken at once. A key that is there already keeps its first answer.

        `sources`: replay_key -> whose values the request shows (ChatRequest.asked_by), known when the answer is.
        """
        ...

    def note(self, sources: Mapping[str, Collection[str]]) -> None:
        """Whose values show requests that known answers serve, too."""
        ...


@runtime_checkable
class Settles(Protocol):
    """A ReplayCache that writes beside the calls; what it was given is durable within a second or so."""

    def settle(self) -> None:
        """Told after each batch, however it ended: durable when it returns, where nobody else sees to that.

        Raises what went wrong in writing; so does `put`.
        """
        ...


@runtime_checkable
class Streaming(Protocol):
    """A ChatModel that tells each answer when it is there (endpoint.HttpChatModel.each)."""

    def each(self, requests: Iterable[ChatRequest], n: int, answered: Callable[[int, Completion], None]) -> None:
        """Draws at most `n` requests and tells the answer to each that it drew, with the request's place."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Most that model calls may use; None: no bound. Cached answers cost nothing."""

    calls: int | None = None
    tokens: int | None = None
    usd: float | None = None
    seconds: float | None = None
    """From the first call on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What was used so far. Tokens and dollars are sums over answers that reported them."""

    calls: int = 0
    cached: int = 0
    failed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0
    seconds: float = 0.0


class Ledger:
    """The one account of a run's model calls: task model, reflection model and judges draw on the same budget.

    Calls are never exceeded, and where they run out a search ends at the same candidate each time. What a call costs in
    tokens and dollars is known after it, so calls are admitted only as far as the mean of those before them fits into
    what is left. Where those run out hangs on which answers were in by then: a search ends a little sooner or later in
    the same stream of candidates.

    One `within` another is somebody's own part of that account: its calls are booked in both, and either may be used
    up. `whose` it is stands in its BudgetError.
    """

    def __init__(self, budget: Budget, *, within: "Ledger | None" = None, whose: str | None = None) -> None:
        self.budget = budget
        self._bound = budget
        self._within = within
        self._whose = whose
        self._stuck = False
        self._lock = threading.Condition()
        self._spent = Spent()
        self._in_flight = 0
        self._began: float | None = None

    @property
    def spent(self) -> Spent:
        with self._lock:
            return replace(self._spent, seconds=self._elapsed())

    @property
    def used_up(self) -> bool:
        """Whether the whole budget admits no further call, whatever is lent of it, or somebody's part of it none."""
        with self._lock:
            return self._stuck or min(self._left(self.budget), default=1) < 1

    @contextmanager
    def lent(self, share: float) -> Iterator[None]:
        """Within it at most `share` of what is left may be used: BudgetError beyond. Loans may lie in each other."""
        with self._lock:
            whole, self._bound = self._bound, self._narrowed(share)
        try:
            yield
        finally:
            with self._lock:
                self._bound = whole

    def take(self, wanted: int) -> int:
        """How many of `wanted` calls may start now, at least one. Raises BudgetError when none may."""
        with self._lock:
            if self._began is None:
                self._began = time.perf_counter()
            while (granted := min([wanted, *self._left(self._bound)])) < 1:
                if not self._in_flight:
                    if self._within is not None:
                        self._within._stuck = True
                    raise BudgetError(self._why())
                self._lock.wait()  # what is under way may turn out cheaper than feared
            self._in_flight += granted
        return granted if self._within is None else self._taken(granted, self._within)

    def _taken(self, granted: int, within: "Ledger") -> int:
        allowed = 0
        try:
            allowed = within.take(granted)
        finally:
            with self._lock:
                self._in_flight -= granted - allowed
                self._lock.notify_all()
        return allowed

    def settle(self, granted: int, completions: Sequence[Completion]) -> None:
        """Books what `granted` calls cost. `completions` is empty where they were never answered."""
        with self._lock:
            self._in_flight -= granted
            spent = self._spent
            self._spent = replace(
                spent,
                calls=spent.calls + granted,
                failed=spent.failed + sum(done.error is not None for done in completions),
                tokens_in=spent.tokens_in + sum(done.tokens_in or 0 for done in completions),
                tokens_out=spent.tokens_out + sum(done.tokens_out or 0 for done in completions),
                usd=spent.usd + sum(done.cost_usd or 0.0 for done in completions),
            )
            self._lock.notify_all()
        if self._within is not None:
            self._within.settle(granted, completions)
        answered = [done for done in completions if done.error is None]
        if self.budget.tokens is not None and any(done.tokens_in is None for done in answered):
            instead = "bound the calls instead" if self._whose is None else "give it no bound (0)"
            raise ConfigError(f"{self._name()} is in tokens, but the model's answers do not count them: {instead}")
        if self.budget.usd is not None and any(done.cost_usd is None for done in answered):
            raise ConfigError("the budget is in dollars, but the model's answers have no cost: give the model a price")

    def count_cached(self, n: int) -> None:
        with self._lock:
            self._spent = replace(self._spent, cached=self._spent.cached + n)
        if self._within is not None:
            self._within.count_cached(n)

    def _elapsed(self) -> float:
        return 0.0 if self._began is None else time.perf_counter() - self._began

    def _narrowed(self, share: float) -> Budget:
        bound, spent = self._bound, self._spent

        def part(limit: float | None, used: float) -> float | None:
            return None if limit is None else used + max(0.0, limit - used) * share

        calls, tokens = part(bound.calls, spent.calls), part(bound.tokens, spent.tokens_in + spent.tokens_out)
        return Budget(
            calls=None if calls is None else ceil(calls),
            tokens=None if tokens is None else ceil(tokens),
            usd=part(bound.usd, spent.usd),
            seconds=part(bound.seconds, self._elapsed()),
        )

    def _left(self, budget: Budget) -> list[int]:
        spent, left = self._spent, []
        if budget.calls is not None:
            left.append(budget.calls - spent.calls - self._in_flight)
        for bound, used in ((budget.tokens, spent.tokens_in + spent.tokens_out), (budget.usd, spent.usd)):
            if bound is None:
                continue
            mean = used / spent.calls if spent.calls else 0.0
            if used >= bound:
                left.append(0)
            elif mean:
                left.append(int((bound - used) / mean) - self._in_flight)
            else:
                left.append(1 - self._in_flight)  # the first call tells what one costs
        if budget.seconds is not None and self._elapsed() >= budget.seconds:
            left.append(0)
        return left

    def _name(self, bounds: str = "") -> str:
        whose = "" if self._whose is None else f"of {self._whose}"
        return " ".join(one for one in ("the budget", bounds, whose) if one)

    def _why(self) -> str:
        spent, bounds = self._spent, {k: v for k, v in asdict(self._bound).items() if v is not None}
        return (
            f"{self._name(str(bounds))} is used up: {spent.calls} calls, {spent.tokens_in + spent.tokens_out} tokens, "
            f"{spent.usd:.4f} USD, {self._elapsed():.0f} s; what was answered is kept, raise the budget to go on"
        )


class CachedModel:
    """A ChatModel that asks the cache first, then the model, and keeps every answer.

    A killed run loses what came in within the last second (Settles), and the chunk under way where the model is not
    `Streaming` and answers chunks only. Failed calls are not kept. As safe to call from several threads as the cache.
    Raises BudgetError when the ledger admits no further call; answers until then are in the cache.
    """

    def __init__(self, model: ChatModel, cache: ReplayCache, ledger: Ledger, *, now_ns: int, chunk: int = 32) -> None:
        if chunk < 1:
            raise ConfigError(f"chunk is {chunk}: give at least 1")
        self.ledger = ledger
        self._model = model
        self._cache = cache
        self._now_ns = now_ns
        self._chunk = chunk

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        keys = [request.replay_key for request in requests]
        sources: dict[str, set[str]] = {}
        for key, request in zip(keys, requests, strict=True):
            sources.setdefault(key, set()).update(request.asked_by)
        known = self._cache.get(sorted(sources))
        self._cache.note({key: sources[key] for key in known})
        answers = {key: replace(completion_from_json(text), cached=True) for key, text in known.items()}
        self.ledger.count_cached(sum(key in answers for key in keys))
        missing = {
            key: replace(request, asked_by=tuple(sorted(sources[key])))
            for key, request in zip(keys, requests, strict=True)
            if key not in answers
        }
        try:
            answers.update(self._answered(list(missing.items())))
        finally:
            if isinstance(self._cache, Settles):
                self._cache.settle()
        return [answers[key] for key in keys]

    def _answered(self, todo: Sequence[tuple[str, ChatRequest]]) -> dict[str, Completion]:
        if isinstance(self._model, Streaming):
            return self._streamed(self._model, todo) if todo else {}
        answers: dict[str, Completion] = {}
        while len(answers) < len(todo):
            begun = len(answers)
            granted = self.ledger.take(min(len(todo) - begun, self._chunk))
            answers.update(self._ask(todo[begun : begun + granted]))
        return answers

    def _streamed(self, model: Streaming, todo: Sequence[tuple[str, ChatRequest]]) -> dict[str, Completion]:
        answers: dict[str, Completion] = {}

        def drawn() -> Iterator[ChatRequest]:
            for _, request in todo:
                self.ledger.take(1)
                yield request

        def answered(place: int, completion: Completion) -> None:
            key, request = todo[place]
            answers[key] = completion
            try:
                self._keep([(key, request, completion)])
            finally:
                self.ledger.settle(1, [completion])

        model.each(drawn(), len(todo), answered)
        return answers

    def _ask(self, todo: Sequence[tuple[str, ChatRequest]]) -> dict[str, Completion]:
        completions: list[Completion] = []
        try:
            completions = self._model.complete([request for _, request in todo])
            self._keep([(key, request, one) for (key, request), one in zip(todo, completions, strict=True)])
        finally:
            self.ledger.settle(len(todo), completions)
        return {key: completion for (key, _), completion in zip(todo, completions, strict=True)}

    def _keep(self, done: Sequence[tuple[str, ChatRequest, Completion]]) -> None:
        rows: dict[str, dict[str, str]] = {}
        sources: dict[str, Collection[str]] = {}
        for key, request, completion in done:
            if completion.error is None:
                rows.setdefault(request.model, {})[key] = completion_to_json(completion)
                sources[key] = request.asked_by
        for model, answers in rows.items():
            self._cache.put(answers, model, self._now_ns, {key: sources[key] for key in answers})


def request_for(artifact: Artifact, case: Case, *, seed: int | None) -> ChatRequest:
    """The call that production would make for this case with this artifact. KeyError where a slot has no value."""
    if artifact.model is None:
        raise ConfigError(f"site {case.site_id}: the artifact names no model; set one for the site before replaying")
    tools = artifact.prompt.get("tools")
    messages = tuple(client.render(artifact.prompt, case.values))
    return ChatRequest(
        model=artifact.model,
        messages=messages,
        params=dict(artifact.prompt.get("params") or {}),
        tools=None if tools is None else tuple(tools),
        seed=seed,
        asked_by=tuple(sorted(map(named, {case.trajectory_id, *_demonstrated(artifact, messages)}))),
    )


def named(trajectory_id: str) -> str:
    """What a request calls an episode by (ChatRequest.about, asked_by)."""
    return md5(trajectory_id.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def _demonstrated(artifact: Artifact, messages: Sequence[ChatMessage]) -> set[str]:
    """The episodes whose demonstrations the messages hold, or that ask the same as those."""
    said = {str(turn.get("content")) for turn in messages}
    shown = (demo for demo in pool_of(artifact) if str(demo["messages"][0]["content"]) in said)
    return {str(demo.get("source")) for demo in shown} - {PRODUCTION_SOURCE}


def output_of(completion: Completion) -> str | None:
    """What is judged of an answer: its text, else the JSON of its tool calls; None where the call failed.

    An answer that says nothing is judged as "": it is a bad answer, not an unknown one.
    """
    if completion.error is not None:
        return None
    if not completion.text and completion.tool_calls:
        return canonical_json(list(completion.tool_calls))
    return completion.text or ""


def completion_to_json(completion: Completion) -> str:
    # Not asdict, which copies every token.
    return canonical_json({name: getattr(completion, name) for name in Completion.__slots__})


def completion_from_json(text: str) -> Completion:
    raw = json.loads(text)
    for name in ("tool_calls", "output_token_ids", "output_logprobs"):
        if raw.get(name) is not None:
            raw[name] = tuple(raw[name])
    return Completion(**raw)
