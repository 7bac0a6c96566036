"""The tables of the lake: Arrow schemas, keys and layout. Every part relies on these; SQL views are made from them.

NULL means "not known" or "not scored" and is never written as 0 or "". Times are UTC nanoseconds since the epoch
(`*_ns`), days are dates, money is US dollars (`*_usd`), JSON columns hold text.
"""

from dataclasses import dataclass

import pyarrow as pa

_STRINGS = pa.list_(pa.string())


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, dtype) for name, dtype in columns.items()])


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table: its columns, the key that makes a row unique, and how its files are laid out."""

    name: str
    schema: pa.Schema
    key: tuple[str, ...]
    partition_by: tuple[str, ...] = ()
    sort_by: tuple[str, ...] = ()
    append_only: bool = False
    """True where rows are only ever added (scores, evaluations, verdicts, releases, ledger)."""


SPANS = _schema(
    day=pa.date32(),  # UTC day of start_ns; NULL where the source has no times
    trace_id=pa.string(),
    span_id=pa.string(),
    parent_span_id=pa.string(),
    session_id=pa.string(),
    user_key=pa.string(),  # keyed pseudonym of the user, never the raw id
    seq=pa.int64(),  # order inside the trace as the source gives it; breaks ties and stands in for missing times
    kind=pa.string(),  # agent|llm|tool|retriever|embedding|reranker|chain|guardrail|evaluator|event
    name=pa.string(),
    start_ns=pa.int64(),
    end_ns=pa.int64(),
    status=pa.string(),  # ok|error|unset
    error_type=pa.string(),
    error_message=pa.string(),
    service=pa.string(),
    agent_name=pa.string(),
    agent_version=pa.string(),
    provider=pa.string(),
    model_requested=pa.string(),
    model=pa.string(),
    params=pa.string(),  # JSON object: temperature and what else the call was made with
    system_ids=_STRINGS,  # system messages that open the prompt; with input_ids after them, what the model read
    input_ids=_STRINGS,
    output_ids=_STRINGS,
    tool_definitions_id=pa.string(),  # message_id of a message of role "tools" that holds the definitions
    finish_reasons=_STRINGS,
    tool_name=pa.string(),
    tool_call_id=pa.string(),
    tool_args=pa.string(),
    tool_result=pa.string(),
    tokens_in=pa.int64(),  # all input, cached included
    tokens_cache_read=pa.int64(),
    tokens_cache_write=pa.int64(),
    tokens_out=pa.int64(),
    tokens_reasoning=pa.int64(),
    cost_usd=pa.float64(),
    prompt_name=pa.string(),
    prompt_version=pa.string(),
    prompt_label=pa.string(),
    prompt_variables=pa.string(),
    input_token_ids=pa.list_(pa.int32()),
    output_token_ids=pa.list_(pa.int32()),
    output_logprobs=pa.list_(pa.float32()),  # of output_token_ids, under the sampling distribution
    task_key=pa.string(),  # the source's own name of the task (benchmark runs), on the root span
    attributes=pa.string(),  # everything not mapped, verbatim JSON after redaction
    source_uri=pa.string(),
    source_line=pa.int64(),
    source_format=pa.string(),
    dialect=pa.string(),
    flags=_STRINGS,  # orphan, truncated, wrapper, synthetic, clock, lossy, redacted, reward_leak, …
    marks=_STRINGS,  # those of the flags that the other spans of the trace decide: orphan, wrapper
    response_id=pa.string(),  # the provider's id of the answer; calls logged twice share it
    revised_ns=pa.int64(),  # when the source last changed the span; NULL where it tells not
    ingested_at=pa.int64(),
)

# What came of spans that are told in several deliveries, so that any order of arrival gives the same span.
SPAN_PARTS = SPANS.append(pa.field("part", pa.string()))  # whole | change | content (messages logged apart)

MESSAGES = _schema(
    day=pa.date32(),  # day of the first span that says it; NULL for undated sources
    message_id=pa.string(),  # 128-bit keyed hash of the redacted canonical JSON
    role=pa.string(),  # system|user|assistant|tool|tools
    name=pa.string(),
    parts=pa.string(),  # canonical JSON list of its parts: text, tool calls, tool results, files, reasoning
    text=pa.string(),  # the text parts joined by newlines; what searches look at
    n_chars=pa.int64(),
)

TRAJECTORIES = _schema(
    trajectory_id=pa.string(),  # the episode; = trace_id
    session_id=pa.string(),
    user_key=pa.string(),
    service=pa.string(),
    agent_name=pa.string(),
    agent_version=pa.string(),
    source_format=pa.string(),
    task_key=pa.string(),
    task_group=pa.string(),  # near-duplicate inputs share one
    pool=pa.string(),  # learn|gate, by keyed hash of the task group
    day=pa.date32(),
    start_ns=pa.int64(),
    end_ns=pa.int64(),
    n_spans=pa.int64(),
    n_llm_calls=pa.int64(),
    n_tool_calls=pa.int64(),
    n_errors=pa.int64(),
    tokens_in=pa.int64(),
    tokens_out=pa.int64(),
    cost_usd=pa.float64(),
    outcome=pa.string(),  # ok|error|unset, of the root span; judgements are scores
    flags=_STRINGS,
)

TRANSITIONS = _schema(
    trajectory_id=pa.string(),
    step=pa.int32(),  # 0-based order of the LLM calls of the trajectory
    span_id=pa.string(),
    site_id=pa.string(),  # the call site; NULL until mining has recovered it
    site_version=pa.string(),
    agent_name=pa.string(),
    system_ids=_STRINGS,
    input_ids=_STRINGS,
    output_ids=_STRINGS,
    tool_definitions_id=pa.string(),
    model=pa.string(),
    params=pa.string(),
    finish_reason=pa.string(),
    input_token_ids=pa.list_(pa.int32()),
    output_token_ids=pa.list_(pa.int32()),
    output_logprobs=pa.list_(pa.float32()),
    trainable=pa.bool_(),
    untrainable_reason=pa.string(),  # why weights cannot learn from it; NULL where trainable
    day=pa.date32(),
    start_ns=pa.int64(),
    # As its span tells it: counting calls must not join every call with its span.
    parent_span_id=pa.string(),
    seq=pa.int64(),  # order inside the trace as the source gives it
    session_id=pa.string(),
    user_key=pa.string(),  # keyed pseudonym of the user, never the raw id
    end_ns=pa.int64(),
    status=pa.string(),  # ok|error|unset
    error_type=pa.string(),
    error_message=pa.string(),
    service=pa.string(),
    agent_version=pa.string(),
    provider=pa.string(),
    tokens_in=pa.int64(),  # all input, cached included
    tokens_cache_read=pa.int64(),
    tokens_cache_write=pa.int64(),
    tokens_out=pa.int64(),
    tokens_reasoning=pa.int64(),
    cost_usd=pa.float64(),
    prompt_name=pa.string(),
    prompt_version=pa.string(),
    source_format=pa.string(),
    flags=_STRINGS,  # the span's: redacted, truncated, …
)

SITES = _schema(
    site_id=pa.string(),
    site_version=pa.string(),  # content id of template + tools: a changed prompt is a new version of its site
    agent_name=pa.string(),
    model=pa.string(),
    template=pa.string(),  # the prompt with its slots: JSON of records.Template
    slots=_STRINGS,
    slot_values=pa.string(),  # JSON by slot: how many values, of what kind, how long, the common ones
    unbound=_STRINGS,  # pseudonyms in constant text, which an operator must bind before anything is published
    tool_definitions_id=pa.string(),
    n_calls=pa.int64(),
    first_ns=pa.int64(),
    last_ns=pa.int64(),
    flags=_STRINGS,  # reward_leak, lossy, …
    recovered_at=pa.int64(),
)

SCORES = _schema(
    score_id=pa.string(),  # content id of the other columns: the same judgement twice is one row
    # span|step|trajectory|session|dataset_run|response (a provider's response id; joined to its spans)
    target_kind=pa.string(),
    target_id=pa.string(),  # the id of what is judged; a step is "trajectory_id/step"
    name=pa.string(),
    value=pa.float64(),  # the judgement; NULL: the judge abstained, or gave only a label
    label=pa.string(),  # free label; for name "correction" the corrected output
    source=pa.string(),  # env|human|user|llm|code|model
    family=pa.string(),  # judges of one family err alike and count as one: people, users, env, tools, judge:<model>, …
    version=pa.string(),
    confidence=pa.float64(),
    evidence=pa.string(),  # what the judgement rests on: JSON
    propensity=pa.float64(),  # probability with which this target was drawn for judgement; NULL: unknown
    user_key=pa.string(),
    at=pa.int64(),
)

CREDITS = _schema(
    trajectory_id=pa.string(),
    step=pa.int32(),
    method=pa.string(),
    credit=pa.float64(),
    variance=pa.float64(),
    version=pa.string(),
)

FINDINGS = _schema(
    finding_id=pa.string(),  # content id of kind, pattern and agent: the same pattern is one finding every night
    kind=pa.string(),  # contrast|loop|dead_end|thrash|exhaustion|unsupported_claim|rare_path|bottleneck|cluster
    what=pa.string(),
    pattern=pa.string(),  # the same for programs: JSON
    agent_name=pa.string(),
    site_id=pa.string(),
    status=pa.string(),  # candidate|confirmed|refuted: confirmed only by data later than what it was found in
    lift=pa.float64(),
    q_value=pa.float64(),
    coverage=pa.float64(),
    n_with=pa.int64(),  # sessions that have the pattern, of those it was tested on
    n_without=pa.int64(),  # and those that do not
    failures_with=pa.float64(),  # the share of them that failed
    failures_without=pa.float64(),  # of comparable ones: same task cluster, same length
    n_users=pa.int64(),  # distinct users behind n_with; NULL: the logs name none
    confirmed_q=pa.float64(),  # q_value on the later data
    found_until_ns=pa.int64(),  # start of the last trajectory that it was found in; what is later may confirm it
    cost_usd_day=pa.float64(),  # what the failing episodes that have it cost a day
    feedback=pa.string(),  # one sentence for those who write prompts; logged text in it is quoted as data
    exemplars=_STRINGS,
    counter_exemplars=_STRINGS,
    night_id=pa.string(),
    at=pa.int64(),
)

CLUSTERS = _schema(
    cluster_id=pa.string(),  # stable: tomorrow's cluster of the same centre keeps the id
    kind=pa.string(),  # intent|failure
    name=pa.string(),  # its telling words, or what a model called it
    terms=_STRINGS,  # the words that it has more of than the others
    embedder=pa.string(),  # which embedding its centre is of
    centre=pa.list_(pa.float32()),  # unit length
    n=pa.int64(),  # trajectories in it
    n_failed=pa.int64(),  # those of them that failed
    trend=pa.string(),  # new|growing|steady|shrinking|gone
    exemplars=_STRINGS,  # trajectories next to the centre
    first_day=pa.date32(),  # of its first trajectory
    last_day=pa.date32(),  # of its last
    night_id=pa.string(),
    at=pa.int64(),
)

CLUSTER_MEMBERS = _schema(
    trajectory_id=pa.string(),
    kind=pa.string(),  # intent|failure
    cluster_id=pa.string(),
    similarity=pa.float64(),  # cosine with the centre
    day=pa.date32(),
)

PROCESS_EDGES = _schema(
    edge_id=pa.string(),  # content id of agent, task cluster and acts
    agent_name=pa.string(),
    cluster_id=pa.string(),  # the task cluster: the intent's cluster, NULL where the episode is in none,
    site_id=pa.string(),  # and the episode's first call site
    from_act=pa.string(),  # start, a tool, a model call; "(fails)" where it went wrong
    to_act=pa.string(),  # the same; end
    n=pa.int64(),  # how often to_act came next
    n_success=pa.int64(),  # episodes with it that went well
    n_failure=pa.int64(),  # episodes with it that failed
    wait_s=pa.float64(),  # mean seconds between the two; NULL where undated
    run_s=pa.float64(),  # mean seconds that to_act took
)

PROCESS_VARIANTS = _schema(
    variant_id=pa.string(),  # content id of agent and acts
    agent_name=pa.string(),
    acts=_STRINGS,  # the whole way, in order
    n=pa.int64(),  # episodes that went it
    n_judged=pa.int64(),  # of them judged
    n_failed=pa.int64(),  # of these failed
    share=pa.float64(),  # of the agent's episodes
)

REWARD_MODELS = _schema(
    name=pa.string(),
    version=pa.string(),
    kind=pa.string(),
    state=pa.string(),  # what fitting learned: JSON; NULL where nothing is fitted
    n_train=pa.int64(),
    lineage=_STRINGS,  # trajectory ids that it was fitted on
    snapshot_id=pa.int64(),
    at=pa.int64(),
)

REWARD_REPORTS = _schema(
    report_id=pa.string(),
    name=pa.string(),
    version=pa.string(),
    n=pa.int64(),  # targets that it scored
    n_abstained=pa.int64(),  # targets of which it said NULL
    n_labelled=pa.int64(),  # of those it scored, targets with a human label
    metrics=pa.string(),  # JSON: auc, brier, ece, kappa and its ceiling, pairwise, worst_slice, flips, probes, drift, …
    reliability=pa.string(),  # JSON: bins of said and found
    passed=pa.bool_(),  # NULL: too few labels to tell
    failures=_STRINGS,  # the thresholds that it missed, in words
    night_id=pa.string(),
    at=pa.int64(),
)

CANDIDATES = _schema(
    candidate_id=pa.string(),
    branch=pa.string(),  # prompt|weights|together|production
    site_id=pa.string(),
    site_version=pa.string(),
    optimizer=pa.string(),
    artifact=pa.string(),  # the prompt, and the adapter where there is one: JSON of records.Artifact
    parent_id=pa.string(),
    lineage=_STRINGS,  # trajectory ids that it was made from
    tune_score=pa.float64(),  # mean reward on the tuning cases; optimistic, never a verdict
    tune_n=pa.int64(),
    support=pa.string(),  # who stands behind each added line: JSON of records.Support; NULL: nothing was made from logs
    snapshot_id=pa.int64(),
    night_id=pa.string(),
    at=pa.int64(),
)

EVALUATIONS = _schema(
    evaluation_id=pa.string(),
    candidate_id=pa.string(),
    case_id=pa.string(),
    task_group=pa.string(),
    purpose=pa.string(),  # tune|gate|live
    output=pa.string(),
    reward=pa.float64(),  # what the answer is worth; NULL: could not be scored
    valid=pa.bool_(),  # the output has the form that production needs
    error=pa.string(),
    tokens_in=pa.int64(),
    tokens_out=pa.int64(),
    cost_usd=pa.float64(),
    latency_ns=pa.int64(),
    cached=pa.bool_(),
    fidelity=pa.string(),  # how it came about: single_step, recorded:exact, …
    reached=pa.int64(),  # calls that were replayed before the episode ended, or left the log
    judged_by=pa.string(),  # name@version of what gave the reward, after the family of a judge: judge:m/rubric@…
    night_id=pa.string(),
    at=pa.int64(),
)

VERDICTS = _schema(
    verdict_id=pa.string(),
    candidate_id=pa.string(),
    baseline_id=pa.string(),
    site_id=pa.string(),
    channel=pa.string(),
    verdict=pa.string(),  # PROMOTE|CONTINUE|REJECT|UNDERPOWERED|BLOCKED
    reason=pa.string(),
    n_cases=pa.int64(),
    n_clusters=pa.int64(),
    baseline_mean=pa.float64(),
    candidate_mean=pa.float64(),
    delta=pa.float64(),
    low=pa.float64(),
    high=pa.float64(),
    e_value=pa.float64(),
    alpha=pa.float64(),
    guardrails=pa.string(),  # what else was checked, and how it came out: JSON
    snapshot_id=pa.int64(),
    night_id=pa.string(),
    at=pa.int64(),
)

RELEASES = _schema(
    release_id=pa.string(),
    channel=pa.string(),
    action=pa.string(),  # promote|rollback
    bundle_id=pa.string(),
    bundle_uri=pa.string(),
    candidate_id=pa.string(),
    verdict_id=pa.string(),
    previous_bundle_id=pa.string(),
    snapshot_id=pa.int64(),
    actor=pa.string(),
    at=pa.int64(),
)

TASKS = _schema(
    task_key=pa.string(),
    task_group=pa.string(),  # declared group (a database, a customer); NULL: group by near-duplicate input
    attributes=pa.string(),  # JSON: gold answer, database, difficulty, …; read by verifiers, never by learning
)

TASK_GROUPS = _schema(
    task_group=pa.string(),
    pool=pa.string(),
    digest=pa.string(),  # of the normalised input; exact repeats find their group by it
    signature=pa.list_(pa.uint32()),  # MinHash of the normalised input; near repeats find theirs by it
    first_seen=pa.int64(),
)

REPLAYS = _schema(
    replay_key=pa.string(),  # content id of model, parameters, messages, tools and seed; then whose logs it shows
    model=pa.string(),
    completion=pa.string(),  # the answer: JSON of records.Completion
    at=pa.int64(),
)

REPLAY_SOURCES = _schema(
    replay_key=pa.string(),
    trace=pa.string(),  # MD5 of a trajectory id: its values fill the request, and the answer is erased with it
)

RUNS = _schema(
    night_id=pa.string(),
    stage=pa.string(),
    started_ns=pa.int64(),
    ended_ns=pa.int64(),
    status=pa.string(),  # ok|skipped|failed
    detail=pa.string(),  # JSON: what the stage found and wrote
    snapshot_id=pa.int64(),  # the snapshot of the lake that the stage read
)

INGEST_LOG = _schema(
    source_uri=pa.string(),
    content_hash=pa.string(),
    size_bytes=pa.int64(),
    source_format=pa.string(),
    format_reason=pa.string(),
    n_records=pa.int64(),  # records of the object; each gives any number of items
    n_quarantined=pa.int64(),  # items refused
    batch_id=pa.string(),
    n_items=pa.int64(),  # what was in them; = n_spans + n_merged + n_duplicates + n_scores + n_quarantined
    n_spans=pa.int64(),  # items that made a span or a newer version of one
    n_merged=pa.int64(),  # items that completed a span beside others
    n_duplicates=pa.int64(),  # items that the lake has already, or has newer
    n_scores=pa.int64(),
    readers=pa.string(),  # which readers looked at it: others may understand what these refused
    redaction=pa.string(),  # which rules redacted it: content id of patterns and settings
    ingested_at=pa.int64(),
    fingerprint=pa.string(),  # keyed hash of URI and version (etag, or size and times): known without reading; or NULL
)

# Objects of which a part is in the lake and the rest is not yet: where to go on, and the account so far.
INGEST_PROGRESS = INGEST_LOG.append(pa.field("position", pa.int64()))  # source records read

QUARANTINE = _schema(
    source_uri=pa.string(),
    content_hash=pa.string(),
    line=pa.int64(),  # its line, from 1; NULL where the whole object is refused
    offset_bytes=pa.int64(),
    source_format=pa.string(),
    reason=pa.string(),
    excerpt=pa.string(),  # first 500 characters, redacted
    ingested_at=pa.int64(),
)

RECEIPTS = _schema(
    receipt_id=pa.string(),
    action=pa.string(),  # forget
    scope=pa.string(),  # user|trace|older_than
    subject=pa.string(),  # keyed hash of who or what was erased, or the age; never the erased value
    counts=pa.string(),  # JSON: rows erased, by table
    flagged=pa.string(),  # JSON: releases and candidates that were made from what was erased
    snapshot_id=pa.int64(),  # the last snapshot before it, of those erased
    at=pa.int64(),
)

ERASED = _schema(
    trace=pa.string(),  # MD5 of a trace id that was erased: its spans are not taken in again
    receipt_id=pa.string(),
)

TRACE_DAYS = _schema(trace_id=pa.string(), day=pa.date32())

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            name="spans",
            schema=SPANS,
            key=("trace_id", "span_id"),
            partition_by=("day",),
            sort_by=("trace_id", "seq"),
        ),
        Table(name="span_parts", schema=SPAN_PARTS, key=("trace_id", "span_id"), sort_by=("trace_id", "span_id")),
        Table(name="messages", schema=MESSAGES, key=("day", "message_id"), partition_by=("day",)),
        Table(name="trajectories", schema=TRAJECTORIES, key=("trajectory_id",), sort_by=("trajectory_id",)),
        Table(
            name="transitions",
            schema=TRANSITIONS,
            key=("trajectory_id", "step"),
            sort_by=("trajectory_id", "step"),
        ),
        Table(name="sites", schema=SITES, key=("site_id", "site_version")),
        Table(name="scores", schema=SCORES, key=("score_id",), append_only=True),
        Table(name="credits", schema=CREDITS, key=("trajectory_id", "step", "method", "version")),
        Table(name="findings", schema=FINDINGS, key=("finding_id",)),
        Table(name="clusters", schema=CLUSTERS, key=("cluster_id",)),
        Table(name="cluster_members", schema=CLUSTER_MEMBERS, key=("trajectory_id", "kind")),
        Table(name="process_edges", schema=PROCESS_EDGES, key=("edge_id",)),
        Table(name="process_variants", schema=PROCESS_VARIANTS, key=("variant_id",)),
        Table(name="reward_models", schema=REWARD_MODELS, key=("name", "version")),
        Table(name="reward_reports", schema=REWARD_REPORTS, key=("report_id",), append_only=True),
        Table(name="candidates", schema=CANDIDATES, key=("candidate_id",)),
        Table(name="evaluations", schema=EVALUATIONS, key=("evaluation_id",), append_only=True),
        Table(name="verdicts", schema=VERDICTS, key=("verdict_id",), append_only=True),
        Table(name="releases", schema=RELEASES, key=("release_id",), append_only=True),
        Table(name="tasks", schema=TASKS, key=("task_key",)),
        Table(name="task_groups", schema=TASK_GROUPS, key=("digest",), append_only=True),
        Table(name="replays", schema=REPLAYS, key=("replay_key",), append_only=True),
        Table(name="replay_sources", schema=REPLAY_SOURCES, key=("replay_key", "trace"), append_only=True),
        Table(name="runs", schema=RUNS, key=("night_id", "stage", "started_ns"), append_only=True),
        Table(name="ingest_log", schema=INGEST_LOG, key=("source_uri", "content_hash"), append_only=True),
        Table(
            name="quarantine",
            schema=QUARANTINE,
            key=("source_uri", "content_hash", "line", "offset_bytes", "reason", "excerpt"),
            append_only=True,
        ),
        Table(name="ingest_progress", schema=INGEST_PROGRESS, key=("source_uri", "content_hash")),
        Table(name="erased", schema=ERASED, key=("trace",), append_only=True),
        Table(name="receipts", schema=RECEIPTS, key=("receipt_id",), append_only=True),
        Table(name="trace_days", schema=TRACE_DAYS, key=("trace_id", "day"), sort_by=("trace_id", "day")),
    )
}
