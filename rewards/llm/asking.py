"""Asking a language model about many things at once: interviews in portions, each with as many rounds as it needs."""

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from hashlib import md5
from itertools import islice
from typing import Any, Generic, Protocol, Self, TypeVar

from tracemill.errors import ConfigError, MissingExtraError, TracemillError
from tracemill.protocols import ChatModel
from tracemill.records import ChatRequest, Completion

PROBE = "probe"
REFUSED = re.compile(r"HTTP 4(?!01|03|04|08|09|25|29)\d\d")
"""An error that will be the same tomorrow: the question is too long, or not allowed."""
_THREADS = 4
"""Portions under way: while one waits for its slowest answers, the others keep the endpoint busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AsksModel:
    """What reward models have in common that ask a language model: whom, how much of it, and about whom.

    `chat` and the model's name come from whoever runs it (`asking`): the endpoint of these settings, or another one.
    """

    name: str
    model: str | None = None
    """None: that of `[endpoint]`."""
    base_url: str | None = None
    """None: `[endpoint]`."""
    api_key_env: str | None = None
    params: Mapping[str, Any] = field(default_factory=lambda: {"temperature": 0.0, "max_tokens": 1500})
    concurrency: int = 16
    timeout_s: float = 120.0
    per_minute: float | None = None
    """Calls that the endpoint allows a minute."""
    budget_tokens: int = 2_000_000
    """Of a run; what is left waits for the next one. 0: no bound, as for servers that do not count tokens."""
    agent: str | None = None
    max_chars: int = 1_200
    """Of each field of a call."""
    max_steps: int = 30
    max_log_chars: int = 24_000
    """Of an episode; from a longer one the middle is left out."""
    seed: int = 0
    chat: ChatModel | None = field(default=None, repr=False, compare=False)
    tell: Callable[[str], None] | None = field(default=None, repr=False, compare=False)
    """Who is to know of questions that got no answer."""

    def __post_init__(self) -> None:
        limits = (self.concurrency, self.max_chars, self.max_steps, self.max_log_chars)
        pace = self.timeout_s if self.per_minute is None else min(self.timeout_s, self.per_minute)
        if min(limits) < 1 or pace <= 0 or self.budget_tokens < 0:
            raise ConfigError(
                f"reward {self.name!r}: budget_tokens is not below 0; concurrency, timeout_s, per_minute and all max_… "
                "are above it"
            )

    @property
    def family(self) -> str:
        """Whatever is asked, answers of one model err alike."""
        return f"judge:{self.model}"

    def asking(self, chat: ChatModel, model: str, *, tell: Callable[[str], None] | None = None) -> Self:
        """This reward model with somebody to ask, and to tell what got no answer."""
        return replace(self, chat=chat, model=model, tell=tell)

    @property
    def asked(self) -> ChatModel:
        if self.chat is None:
            raise ConfigError(
                f"reward {self.name!r} asks a language model, and has none: "
                "set base_url and model in its [[rewards]], or in [endpoint]"
            )
        return self.chat

    def need_dspy(self) -> None:
        """Raises MissingExtraError where dspy is not installed."""
        try:
            import dspy  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("prompts", f"the reward {self.name!r}") from error

    def request(self, messages: Sequence[Mapping[str, Any]], about: Sequence[str], *, seed: int) -> ChatRequest:
        """A call about these trajectories; an answer that is kept is forgotten with them.

        A trajectory without a name is a bias probe, made of nobody knows which: its answers go with whoever goes.
        """
        names = [one.encode("utf-8", "surrogatepass") for one in about]
        return ChatRequest(
            model=str(self.model),
            messages=tuple(dict(message) for message in messages),
            params=dict(self.params),
            seed=seed,
            about=tuple(md5(one, usedforsecurity=False).hexdigest() if one else PROBE for one in names),
        )


class Interview(Protocol):
    """Questions about one thing, in rounds: what is asked next may hang on what was answered."""

    def asks(self) -> Sequence[ChatRequest]:
        """The questions of the next round; none: it is over."""
        ...

    def hear(self, answers: Sequence[Completion]) -> None:
        """The answers to the last round, in its order."""
        ...


I = TypeVar("I", bound=Interview)  # noqa: E741


@dataclass(slots=True)
class _Portion(Generic[I]):
    done: list[I] = field(default_factory=list)
    waiting: list[I] = field(default_factory=list)
    """Got no answer, and are to be asked once more."""
    lost: dict[int, str] = field(default_factory=dict)
    """Why one got no answer the last time, too, by what `id` says of it."""
    refused: dict[int, str] = field(default_factory=dict)
    """Why a question was not allowed."""
    stopped: TracemillError | None = None


def held(
    interviews: Iterator[I],
    chat: ChatModel,
    *,
    at_once: int,
    tell: Callable[[str], None] | None = None,
    of: str = "episodes",
) -> Iterator[list[I]]:
    """Interviews in portions of `at_once`, as they are done. `interviews` is read by the caller's thread alone.

    Where the endpoint dies or a budget is used up, of the portions under way those are handed over that were done, no
    further one is begun, and the error is raised at the end. Whoever got no answer is asked once more when everybody
    was: an endpoint that died among the last questions is found dead then, and a single failure may pass. How many
    (`of` what) got no answer all the same, or were refused one, `tell` is told.
    """
    stopped: TracemillError | None = None
    waiting: list[I] = []
    lost: list[str] = []
    refused: list[str] = []
    last = False
    left = threading.Event()
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="interviews") as pool:
        going: set[Future[_Portion[I]]] = set()
        try:
            while True:
                while stopped is None and len(going) < _THREADS and (portion := list(islice(interviews, at_once))):
                    going.add(pool.submit(_hold, portion, chat, left, last))
                if not going and waiting and stopped is None:
                    interviews, waiting, last = iter(waiting), [], True
                    continue
                if not going:
                    break
                done, going = wait(going, return_when=FIRST_COMPLETED)
                for one in done:
                    came = one.result()
                    stopped = stopped or came.stopped
                    waiting += came.waiting
                    lost += came.lost.values()
                    refused += came.refused.values()
                    yield came.done
        finally:
            left.set()  # whoever asked does not wait for further rounds
    if tell is not None and lost:
        tell(f"{of} without an answer, asked twice: {len(lost)} ({lost[0]}); the next run asks about them again")
    if tell is not None and refused:
        tell(f"{of} that were refused an answer: {len(refused)} ({refused[0]})")
    if stopped is not None:
        raise stopped


def _hold(interviews: list[I], chat: ChatModel, left: threading.Event, last: bool) -> _Portion[I]:
    found: _Portion[I] = _Portion()
    going = interviews
    while not left.is_set():
        rounds = [(one, one.asks()) for one in going]
        found.done += [one for one, requests in rounds if not requests]
        rounds = [(one, requests) for one, requests in rounds if requests]
        if not rounds:
            break
        try:
            answers = iter(chat.complete([request for _, requests in rounds for request in requests]))
        except TracemillError as error:
            # No answer is better than half of one.
            found.stopped = error
            return found
        going = []
        for one, requests in rounds:
            heard = list(islice(answers, len(requests)))
            errors = [answer.error for answer in heard if answer.error is not None]
            missing = next((error for error in errors if not REFUSED.match(error)), None)
            if missing is not None and not last:
                found.waiting.append(one)
                continue
            one.hear(heard)
            going.append(one)
            if missing is not None:
                found.lost.setdefault(id(one), missing)
            elif errors:
                found.refused.setdefault(id(one), errors[0])
    return found
