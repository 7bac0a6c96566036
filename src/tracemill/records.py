"""The values that stages hand each other: frozen, keyword-only, named by their content."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

import pyarrow as pa

from tracemill.ids import canonical_json, content_id

Pool = Literal["learn", "gate"]
Branch = Literal["prompt", "weights", "together", "production"]
"""What a candidate changes: production's prompt, its weights, or both."""
SURE = 0.6
"""How high the lower bound of a full reward must lie for an output to count as right.

With `[combined] caution = 1` corrections and environments have 1, reviewers and verifiers 0.95, a vote of a user who
votes as seldom as anybody 0.8; whose votes count less than a third of that, having cast many more, has less than 0.6.
"""
ChatMessage = dict[str, Any]
"""One chat message in OpenAI shape: role, content, and where it has them tool_calls, tool_call_id, name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What ingest made of a bounded group of source objects; written to the lake in one transaction."""

    batch_id: str
    tables: Mapping[str, pa.Table]
    """By table name, each with its schema of schema.py: spans, span_parts, messages, scores, tasks, ingest_log,
    ingest_progress, quarantine. The counts of ledger rows are those of this batch; the lake adds the earlier ones."""
    score_uris: tuple[str, ...] = ()
    """The source of each row of `scores`, for the account of its object."""
    duplicates: int = 0
    """Items left out because the batch holds them already, or holds a newer version."""
    outgrown: tuple[tuple[str, str], ...] = ()
    """Objects (uri, content hash) that objects of the batch begin with: what was refused of them is read again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A call site's recovered prompt: the `messages` and `tools` part of a prompt artifact (client.py).

    Items of `messages` are `{"role": …, "content": [text | {"slot": name}, …]}`, at most one
    `{"conversation": true}`. Constant user/assistant pairs are demonstrations that production carries.
    """

    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] | None = None

    @property
    def slots(self) -> tuple[str, ...]:
        """Slot names in order of first appearance, `conversation` included where there is one."""
        found: dict[str, None] = {}
        for item in self.messages:
            if item.get("conversation"):
                found["conversation"] = None
            for piece in item.get("content") or ():
                if not isinstance(piece, str):
                    found[piece["slot"]] = None
        return tuple(found)

    def to_json(self) -> str:
        return canonical_json({"messages": list(self.messages), "tools": self.tools and list(self.tools)})

    @classmethod
    def from_json(cls, text: str) -> "Template":
        raw = json.loads(text)
        tools = raw.get("tools")
        return cls(messages=tuple(raw["messages"]), tools=None if tools is None else tuple(tools))


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One call site: where in an agent a model is called, with the prompt template recovered from the logs."""

    site_id: str
    site_version: str
    agent_name: str | None
    model: str | None
    template: Template
    params: Mapping[str, Any] = field(default_factory=dict)
    unbound: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    n_calls: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One logged call to learn from, or to be judged on."""

    case_id: str  # "trajectory_id/step"
    trajectory_id: str
    step: int
    steps: int = 1
    """Calls of the whole trajectory: the outcome of an episode of several is not the outcome of one of them."""
    site_id: str
    task_key: str | None
    task_group: str
    pool: Pool
    values: Mapping[str, Any]
    """Slot name -> logged text: rendering the template of the call's version with them gives what production sent."""
    logged_messages: tuple[ChatMessage, ...]
    """What production sent, as redacted."""
    logged_output: str
    """Its text, or its tool calls as canonical JSON."""
    calls_tools: bool = False
    """Whether the logged output called tools."""
    reward: float | None
    """Combined reward of the logged output, in [0, 1]; None where nobody knows."""
    reward_low: float | None = None
    """Lower bound of the reward; None where whoever gave it says of no doubt."""
    correction: str | None = None
    """The output a human says would have been right."""
    weight: float = 1.0
    """1 / the probability that this case was drawn for judgement."""
    task: Mapping[str, Any] = field(default_factory=dict)
    """The declared task's attributes (gold answer, database); for verifiers only."""
    user: str | None = None
    """Pseudonym of whoever was served; else the session's id."""

    @property
    def owner(self) -> str:
        """Whom the case counts for where distinct users are counted: an episode that names nobody is one of its own."""
        return self.user or self.trajectory_id

    @property
    def sure_reward(self) -> float | None:
        """What learning counts on: the lower bound of the reward where there is one."""
        return self.reward if self.reward is None or self.reward_low is None else self.reward_low

    @property
    def expected(self) -> str | None:
        """The output known to be right: the correction, else a fully rewarded logged output that is sure enough."""
        if self.correction is not None:
            return self.correction
        right = self.reward is not None and self.reward >= 1.0
        return self.logged_output if right and (self.sure_reward or 0.0) >= SURE else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """What is deployed: a prompt artifact (client.py) and, for tuned weights, the adapter it is to be served with."""

    prompt: Mapping[str, Any]
    adapter_path: str | None = None
    """Folder of safetensors and model card; content-addressed, so the path names the weights."""
    others: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By site_id: prompts of further sites that are deployed with it, all at once or none."""

    @property
    def model(self) -> str | None:
        """The name to ask the endpoint for."""
        name = self.prompt.get("adapter") or self.prompt.get("model")
        return None if name is None else str(name)

    @property
    def prompts(self) -> tuple[Mapping[str, Any], ...]:
        """Its own prompt, then those of the further sites in the order of their ids."""
        return self.prompt, *(self.others[site_id] for site_id in sorted(self.others))

    @property
    def apart(self) -> Mapping[str, "Artifact"]:
        """Each site's prompt as an artifact of its own, by site_id, in the order of `prompts`."""
        own = replace(self, others={})
        return {str(one["site_id"]): own if one is self.prompt else Artifact(prompt=one) for one in self.prompts}

    def to_json(self) -> str:
        content = asdict(self)
        if not self.others:
            del content["others"]
        return canonical_json(content)

    @classmethod
    def from_json(cls, text: str) -> "Artifact":
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """A line or demonstration that a candidate adds to production's prompt, and who stands behind it."""

    text: str
    trajectories: tuple[str, ...]
    """Episodes that it was written from."""
    n_users: int
    """Distinct users of these episodes; one that names nobody counts as its session, else as itself."""
    demonstration: bool = False
    site_id: str | None = None
    """Whose prompt it is added to, where a candidate has prompts of several sites; None: the candidate's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A proposed change to one site; `production` is the artifact it has to beat."""

    branch: Branch
    site_id: str
    site_version: str
    optimizer: str
    artifact: Artifact
    parent_id: str | None = None
    lineage: tuple[str, ...] = ()
    tune_score: float | None = None
    tune_n: int = 0
    support: tuple[Support, ...] = ()
    """Of every line that was made from logs."""

    @property
    def candidate_id(self) -> str:
        return content_id(self.branch, self.site_id, self.artifact.to_json())


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One call to a model."""

    model: str
    messages: tuple[ChatMessage, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] | None = None
    seed: int | None = None
    about: tuple[str, ...] = ()
    """MD5 of the trajectories whose log it shows; not sent. A kept answer to it is erased with any of them."""
    asked_by: tuple[str, ...] = ()
    """MD5 of the trajectories whose values or demonstrations fill it; neither sent nor part of the key: equal cases
    share one answer. It is erased with any of them, and one that is of nobody, here and in `about`, with whatever is
    erased."""

    @property
    def replay_key(self) -> str:
        content = content_id(self.model, self.messages, dict(self.params), self.tools, self.seed)
        return f"{content}/{'+'.join(self.about)}" if self.about else content


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a model answered, or the error that stood in its way."""

    text: str | None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    finish_reason: str | None = None
    output_token_ids: tuple[int, ...] | None = None
    output_logprobs: tuple[float, ...] | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: float | None = None
    latency_ns: int | None = None
    error: str | None = None
    cached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedCall:
    """One call of a logged episode at the site that is replayed."""

    step: int
    values: Mapping[str, Any]
    """Slot name -> logged text, as in a Case."""
    answer: tuple[ChatMessage, ...]
    """What the model answered, in OpenAI shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """A trajectory as one site saw it: its calls there in order, the last of which ended it."""

    trajectory_id: str
    calls: tuple[LoggedCall, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """Where a call was sent what an earlier call of its episode answered."""

    source: int
    """The place of the earlier call in the episode."""
    slot: str
    turn: int | None
    """The number of the message, where the slot is a conversation."""
    start: int
    end: int
    """Of the slot's text, or of the message's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainedCall:
    """One call of an episode of several sites."""

    site_id: str | None
    """None where no template of today binds it; then the conversation is all that it was sent."""
    step: int
    values: Mapping[str, Any]
    answer: tuple[ChatMessage, ...]
    passed: tuple[Passed, ...] = ()
    told: bool = False
    """Whether the log shows wherever its answer went: then another answer can be put there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A trajectory as all its sites saw it: every call of a model, in order."""

    trajectory_id: str
    calls: tuple[ChainedCall, ...]


Fidelity = Literal[
    "lint",
    "logged",
    "single_step",
    "pairwise",
    "recorded:exact",
    "recorded:equivalent",
    "recorded:divergent",
    "chained:exact",
    "chained:substituted",
    "chained:divergent",
    "executed",
    "simulated",
]
"""How an outcome came about: a column of `evaluations`; docs/optimize.md says what each of them means."""
EVIDENCE: frozenset[Fidelity] = frozenset(get_args(Fidelity)) - {"lint", "simulated"}
"""What the gate may count: what a model made up, playing a tool or a user, proves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One artifact on one case: a row of `evaluations` before it is written."""

    case_id: str
    task_group: str
    completion: Completion
    """Of several calls the last answer, and what all of them cost."""
    reward: float | None
    valid: bool | None
    fidelity: Fidelity = "single_step"
    reached: int = 1
    """Calls that were replayed before the episode ended, or left the log."""
    judged_by: str | None = None
    """Name and version of what gave the reward; None where nothing did, or it is not known."""
    way: tuple[ChatMessage, ...] = ()
    """Of several calls what was said after the question: answers, tools' results, users' words."""


Verdict = Literal["PROMOTE", "CONTINUE", "REJECT", "UNDERPOWERED", "BLOCKED"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrail:
    """One thing that must not get worse, and whether it did."""

    name: str
    passed: bool | None
    """None: could not be measured, which does not pass."""
    baseline: float | None
    candidate: float | None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the gate decided about one candidate, and everything the decision rests on."""

    candidate_id: str
    baseline_id: str
    site_id: str
    channel: str
    verdict: Verdict
    reason: str
    n_cases: int
    n_clusters: int
    baseline_mean: float | None
    candidate_mean: float | None
    delta: float | None
    low: float | None
    high: float | None
    e_value: float | None
    alpha: float
    guardrails: tuple[Guardrail, ...] = ()
