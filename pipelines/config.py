"""What a project configures: frozen values, one class per table of `tracemill.toml`; app/settings parses them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from tracemill.ingest import Limits, Redaction, RowMapping
from tracemill.rewards.report import Thresholds
from tracemill.warehouse.place import Place


def _regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from error
    return text


def _distinct(formats: tuple[RowMapping, ...]) -> tuple[RowMapping, ...]:
    names = [one.name for one in formats]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two formats are called {name!r}")
    return formats


def _whole(lake: Any) -> Any:
    """`lake = "folder"` as the table that it is short for."""
    return {"path": lake} if isinstance(lake, str) else lake


Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Price = Annotated[float, Field(ge=0)]
Days = Annotated[float, Field(ge=0)]
Pattern = Annotated[str, AfterValidator(_regex)]
Order = Literal["side by side", "p -> w", "w -> p", "p -> w -> p"]
Engine = Literal["local", "processes", "ray"]
Rung = Literal["lint", "single_step", "pairwise", "recorded", "simulated", "executed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LakeConfig:
    """`[lake]`: where the lake lies. `lake = "folder"` is short for its path."""

    path: str = ".tracemill/lake"
    """Folder of this machine; with nothing else said, all of the lake is in it."""
    catalog: str | None = None
    """A database that several machines share: `postgres:host=… dbname=…`."""
    data: str | None = None
    """Where they share the data: `s3://bucket/prefix`, or a folder that all of them see."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the object store: endpoint_url, region; nothing secret."""

    def __post_init__(self) -> None:
        self.place(Path())

    def place(self, root: Path) -> Place:
        """Where the lake of the project in the folder `root` lies."""
        data = self.data
        if data is not None and "://" not in data:
            data = str(root / data)
        return Place(root=root / self.path, catalog=self.catalog, data=data, options=self.options)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    """`[[sources]]`: logs that the nightly flow takes in."""

    path: str
    """File, folder, glob or fsspec URL; relative to the project."""
    format: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the fsspec file system of a URL is made with (endpoint_url, anon); nothing secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestConfig:
    """`[ingest]`: who decodes and redacts the logs; the rows are the same."""

    engine: Engine = "local"
    """This process, processes beside it, or a Ray cluster."""
    workers: Count | None = None
    """None: a process for each core of this machine; of a Ray cluster all CPUs."""
    ray_address: str | None = None
    """Of a running cluster ("auto", "10.0.0.5:6379"); None: one on this machine, for the length of a call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectConfig:
    """`[collect]`: the receiver of OTLP over HTTP."""

    host: str = "127.0.0.1"
    """Loopback: whoever opens it to others wants a token, and TLS in front of it."""
    port: Annotated[int, Field(ge=0, le=65535)] = 4318
    """0: any free one."""
    token_env: str | None = None
    """Environment variable with the bearer token that requests must carry."""
    rotate_mib: Count = 64
    """A landing file is handed over when it is so large …"""
    rotate_s: Positive = 60.0
    """… or so old."""
    max_body_mib: Count = 64
    """One request, after decompression; at most `[limits] record_mib`, or ingest would refuse it."""
    max_waiting_mib: Count = 256
    """All requests that are not yet answered, in memory; what comes beyond it is told to come back later (429)."""
    keep_refused_days: Days = 0.0
    """How long a landing file with a record that could not be read is kept; it holds what redaction takes out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksConfig:
    """`[tasks]`: a file that declares the tasks behind benchmark-like logs (gold answers, groups)."""

    path: str
    key: str
    format: str | None = None
    """What stands before the colon in the `task_key` of the logs of these tasks, mostly their format; None: nothing."""
    group: str | None = None
    """Column whose value makes the task group, so that a split never cuts through it (a database, a customer)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardConfig:
    """`[[rewards]]`: one reward model; every further key is an option of that kind."""

    kind: str
    name: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditConfig:
    """`[credit]`: how the outcome of an episode is shared among its calls."""

    methods: tuple[str, ...] = ("uniform",)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """`[credit.options.METHOD]`: knobs of one method."""
    model: str | None = None
    """Whom `hindsight` asks, by its name at `url`."""
    url: str | None = None
    key_env: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CombinedConfig:
    """`[combined]`: how judgements become one reward."""

    weights: Mapping[str, Price] = field(default_factory=dict)
    """By name of the score; 0 leaves one out."""
    sealed: tuple[str, ...] = ()
    """Reward models that only the gate and the reports read, so that nothing is learned from them."""
    caution: Price = 1.0
    """combined_low is combined less so many standard deviations."""
    one_family: Share = 0.2
    """Where AUC falls by more without one family of judges, that family alone decides, and nothing is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClustersConfig:
    """`[clusters]`: how alike texts are, for clusters and for what must not leak from the gate into learning."""

    embedder: Literal["auto", "wordllama", "hashing", "endpoint"] = "auto"
    """auto: the server at `url`, else wordllama where the extra `patterns` is installed, else hashes of words."""
    url: str | None = None
    """An OpenAI-compatible server that embeds, such as http://127.0.0.1:8000/v1."""
    model: str | None = None
    key_env: str | None = None
    naming_model: str | None = None
    """A model that names new clusters, by its name at `naming_url`; None: their telling words name them."""
    naming_url: str | None = None
    naming_key_env: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MiningConfig:
    """`[mining]`: what findings may be about."""

    segments: tuple[str, ...] = ()
    """Keys of metadata and attributes that divide callers, beside those that look like it."""
    no_segments: tuple[str, ...] = ()
    """Keys that do not; `tag` stands for all tags."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitConfig:
    """`[split]`: what is kept from learning, so that the gate can judge."""

    gate_share: Share = 0.4
    tune_share: Share = 0.35
    """Share of the learn pool's task groups that candidates are compared on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointConfig:
    """`[endpoint]`: the model that replays cases."""

    base_url: str | None = None
    """An OpenAI-compatible server, such as http://127.0.0.1:8000/v1."""
    local: str | None = None
    """Without base_url: a small model that tracemill serves itself while it needs it ("smollm2" or a folder)."""
    model: str | None = None
    """Name to ask for; default: the site's own model."""
    api_key_env: str | None = None
    """Environment variable that holds the key."""
    usd_per_million: tuple[Price, Price] | None = None
    """Price of a million tokens, in and out; what `[optimize] max_usd` counts with."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Sampling parameters for sites whose logs do not tell theirs (max_tokens, temperature)."""
    threads: Count | None = None
    """Of a local model."""
    concurrency: Count = 16
    timeout_s: Positive = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizeConfig:
    """`[optimize]`: the prompt branch."""

    enabled: bool = True
    optimizers: tuple[str, ...] = ("logged", "labeled_few_shot", "nearest", "random_search")
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """`[optimize.options.NAME]`: knobs of one optimizer."""
    ladder: tuple[Rung, ...] = ("lint", "single_step")
    """How prompts are tried: each case is judged by the first level that can. Nothing simulated reaches the gate."""
    read_only_tools: tuple[str, ...] = ()
    """Tools that change nothing: a recorded replay may call them more often, earlier, or not at all."""
    reflection_model: str | None = None
    """A capable model that writes prompts, by its name at `reflection_url`, else by LiteLLM's name."""
    reflection_url: str | None = None
    reflection_key_env: str | None = None
    tool_descriptions: bool = False
    """Whether those of the optimizers that can write what describes a site's tools, too (optimizers.WRITE_TOOLS)."""
    jointly: tuple[str, ...] = ()
    """Agents, or ids of sites, that work on the same episodes: their prompts are searched, judged, released as one."""
    joint_rounds: Count = 2
    """How often each of them is searched, while the others got better."""
    min_users: Count = 2
    """A line of instructions that episodes of fewer distinct users taught is not used."""
    min_demonstration_users: Count = 1
    """The same for a demonstration: of users who asked the same and were answered right alike."""
    headroom: bool = True
    """Whether to look first if there is anything to gain, and to search for nothing where there is not."""
    max_tune_cases: Count = 48
    max_calls: Count = 2_000
    max_tokens: Count | None = None
    max_usd: Positive | None = None
    max_seconds: Positive | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentConfig:
    """`[environment]`: where the ladder's level `executed` runs agents for real."""

    make: str | None = None
    """`package.module:function` that gives a fresh protocols.Environment, in the project's folder or installed."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What it is called with."""
    max_steps: Count = 10
    """Calls of the model in an episode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """`[train]`: the weights branch."""

    enabled: bool = True
    base_model: str | None = None
    """"smollm2", or a folder with a transformers model; without one the branch has nothing to train."""
    trainer: str = "auto"
    """auto: offline GRPO once a tuned policy has logged log-probabilities, else SFT."""
    min_rows: Count = 16
    max_tokens: Count = 1024
    """Longer rows are dropped and counted."""
    hand_over: bool = False
    """Where the log has no right answer, weights learn from what tonight's prompts answered, judged right for sure."""
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    threads: Count = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """`[gate]`: what it takes to be promoted."""

    channel: str = "production"
    """A channel holds one bundle: an agent of several sites, or a project of several agents, writes {agent} into it."""
    alpha: Share = 0.05
    """Expected share of false promotions among all promotions over the life of the deployment."""
    wanted_effect: Share = 0.08
    """Smallest gain worth a promotion, as a difference in mean reward."""
    max_cases: Count = 120
    max_nights: Count = 5
    valid_output: Pattern | None = None
    """Regular expression that a well-formed output matches in full; default: any non-empty output."""
    latency_ratio: Positive = 3.0
    max_sealed_gap: Share = 0.2
    """How much more a candidate may gain by the judges that it was tuned on than by a sealed one, in mean reward."""
    auto_promote: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishConfig:
    """`[[publish]]`: where promoted bundles go."""

    kind: str = "folder"
    path: str | None = None
    url: str | None = None
    api_key_env: str | None = None
    """Environment variable with the key of an `endpoint`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One project: `tracemill.toml` and the folder it lies in."""

    root: Path
    name: str = "tracemill"
    lake: Annotated[LakeConfig, BeforeValidator(_whole)] = LakeConfig()
    seed: int = 0
    sites_per_night: Count = 1
    order: Order = "side by side"
    """Both branches from what production runs, or in turn: each step from the best that there is before it."""
    agent_match: Pattern | None = None
    """Regular expression: only sites of agents whose names it finds are learned from."""
    sources: tuple[SourceConfig, ...] = ()
    formats: Annotated[tuple[RowMapping, ...], AfterValidator(_distinct)] = ()
    """`[[formats]]`: logs that only this project has, as rows whose columns it names."""
    redaction: Redaction = field(default_factory=Redaction)
    """`[redaction]`: what is taken out of logs before anything is written."""
    ingest: IngestConfig = IngestConfig()
    collect: CollectConfig = CollectConfig()
    limits: Limits = field(default_factory=Limits)
    """`[limits]`: what is too large to be read, and ends in quarantine."""
    tasks: TasksConfig | None = None
    rewards: tuple[RewardConfig, ...] = (
        RewardConfig(kind="feedback"),
        RewardConfig(kind="tools"),
        RewardConfig(kind="exact_match"),
    )
    credit: CreditConfig = CreditConfig()
    combined: CombinedConfig = field(default_factory=CombinedConfig)
    reports: Thresholds = field(default_factory=Thresholds)
    """`[reports]`: what a reward model must reach to be used."""
    clusters: ClustersConfig = ClustersConfig()
    mining: MiningConfig = MiningConfig()
    split: SplitConfig = SplitConfig()
    endpoint: EndpointConfig = EndpointConfig()
    optimize: OptimizeConfig = OptimizeConfig()
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    train: TrainConfig = TrainConfig()
    gate: GateConfig = GateConfig()
    bind: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """`[bind.AGENT]`: what redacted constants of that agent's prompts stand for, by slot (email_1 = "help@…")."""
    publish: tuple[PublishConfig, ...] = (PublishConfig(kind="folder", path="published"),)

    def path(self, relative: str) -> Path:
        """A path of the settings, relative to the project's folder."""
        return self.root / relative

    def channel(self, agent: str | None) -> str:
        """The channel that an agent's site is released to."""
        return self.gate.channel.format(agent=re.sub(r"[^\w.-]+", "-", agent or "agent"))

    @property
    def lake_path(self) -> Path:
        """The lake's folder on this machine."""
        return self.path(self.lake.path)

    @property
    def lake_place(self) -> Place:
        return self.lake.place(self.root)

    @property
    def landing_path(self) -> Path:
        """Where the collector writes what it receives."""
        return self.path(".tracemill/landing")

    @property
    def bundles_path(self) -> Path:
        """Every bundle ever built; rollback needs them."""
        return self.path(".tracemill/bundles")

    @property
    def work_path(self) -> Path:
        """Where runs keep checkpoints, converted models and logs; may be deleted between nights."""
        return self.path(".tracemill/work")

    def model(self, name: str) -> str:
        """A model of the settings: a folder of the project by its full path, any other name as it is."""
        folder = self.path(name)
        return str(folder) if folder.is_dir() else name
