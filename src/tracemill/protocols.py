"""What a new part must do. Every implementation runs through the contract suite of its protocol in tests/."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import duckdb
import pyarrow as pa

from tracemill.records import Candidate, Case, ChatRequest, Completion
from tracemill.study import Study


class ChatModel(Protocol):
    """Something that answers chat requests. Answers come in the order of the requests.

    A single failed call is a Completion with `error`; a dead endpoint raises EndpointError.
    """

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]: ...


class RewardModel(Protocol):
    """Judges what was logged. Rows of schema.SCORES come out; a NULL value is an abstention, never a zero."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str:
        """Content id of code, configuration, rubric and weights: two versions never share rows."""
        ...

    @property
    def level(self) -> Literal["step", "trajectory", "session"]: ...

    @property
    def family(self) -> str:
        """Voters of one family err alike and count as one: users, tools, verifier, judge:<model>, learned, …"""
        ...

    @property
    def state(self) -> str | None:
        """What fitting learned, as JSON for the table reward_models; None where nothing is fitted."""
        ...

    def fit(self, con: duckdb.DuckDBPyConnection, *, now_ns: int) -> "RewardModel":
        """This model as the lake's labels teach it; itself where it learns nothing or the labels are too few."""
        ...

    def score(self, con: duckdb.DuckDBPyConnection, *, now_ns: int) -> pa.Table:
        """Scores of all targets that this version has not judged yet. `con` is a read-only view of the lake."""
        ...


@runtime_checkable
class Fitted(Protocol):
    """What a reward model with a state says of its fitting, for the table reward_models."""

    @property
    def n_train(self) -> int: ...

    @property
    def lineage(self) -> tuple[str, ...]:
        """Trajectories that it was fitted on: where one of them is forgotten, the state goes."""
        ...


@runtime_checkable
class InPortions(Protocol):
    """A reward model whose judgements cost: what is known is written before the rest is waited for."""

    def portions(self, con: duckdb.DuckDBPyConnection, *, now_ns: int) -> Iterator[pa.Table]:
        """Rows of `score`, some at a time. EndpointError or BudgetError, where one ends it early, comes after them."""
        ...


class CreditAssigner(Protocol):
    """Shares the outcome of an episode among its calls. Rows of schema.CREDITS come out."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def assign(self, con: duckdb.DuckDBPyConnection) -> pa.Table:
        """Credits of all calls of judged episodes that this version has not credited at this reward.

        The credits of an episode add up to its advantage: its combined reward less that of comparable episodes.
        """
        ...


class Verifier(Protocol):
    """Judges one output of a case, logged or replayed, without a model."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def verify(self, case: Case, output: str) -> float | None:
        """Reward in [0, 1]; None where this case cannot be judged."""
        ...


class Optimizer(Protocol):
    """Searches better prompts for one site. Holds knobs, not runs: two searches give the same stream twice."""

    @property
    def name(self) -> str: ...

    def search(self, study: Study) -> Iterator[Candidate]:
        """Yields candidates as they are found, each with its tuning score.

        Demonstrations and instructions are made from `study.train`, and compared on `study.tune`.
        """
        ...


class Environment(Protocol):
    """Where an agent acts for real: one episode at a time, each from the same fresh start.

    Whatever `reset` and `step` raise is a fault of the environment: it is told, and is no reward.
    """

    def reset(self, task: Mapping[str, Any]) -> str:
        """Begins the episode of a declared task (its attributes). The first observation; "" where there is none."""
        ...

    def step(self, action: str) -> tuple[str, float | None, bool]:
        """Observation, reward in [0, 1] (None: none yet, or nobody can say), and whether the episode is over.

        `action` is the text of an answer; of an answer that calls tools one call, as canonical JSON of its name and
        arguments.
        """
        ...


class Trainer(Protocol):
    """Trains an adapter. Runs in its own process; progress and checkpoints under `out`."""

    @property
    def name(self) -> str: ...

    def train(
        self, datums: Path, base_model: str, out: Path, *, report: Callable[[Mapping[str, Any]], None]
    ) -> Mapping[str, Any]:
        """Reads datums (Parquet, train/datums.py), writes `out/adapter` (safetensors) and returns its metrics.

        Where the datums teach nothing, no adapter is written and the metrics say why under `nothing_to_learn`.
        A second call with the same `out` continues from the last checkpoint.
        """
        ...


class Publisher(Protocol):
    """Brings a bundle to where agents read it, and moves a channel to it atomically."""

    @property
    def name(self) -> str: ...

    def publish(self, bundle: Path, bundle_id: str, channel: str) -> str:
        """Returns the URI that agents read. Raises PublishError; then the channel still points where it did."""
        ...

    def current(self, channel: str) -> str | None:
        """The bundle id that the channel points to; None where nothing was published."""
        ...
