"""Cases to training rows: the prompt exactly as production will send it, and the output to learn from.

A row is a prompt (rendered by `tracemill.client.render`, tokenised by the model's own chat template) with one
completion. SFT rows hold the output known to be right; GRPO rows hold what was drawn, its log-probabilities and the
lower bound of its reward: what is in doubt earns less. Rows that cannot be learned from are dropped and counted by
reason: a night that trained on fewer rows than it read says why.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from tracemill import client
from tracemill.errors import ConfigError, MissingExtraError
from tracemill.ids import PSEUDONYM, canonical_json
from tracemill.records import Artifact, Case
from tracemill.train import prompts

Kind = Literal["sft", "grpo", "preference"]

SCHEMA = pa.schema(
    [
        pa.field("case_id", pa.string()),
        pa.field("trajectory_id", pa.string()),
        pa.field("group", pa.string()),  # the task group: what a GRPO baseline is taken over
        pa.field("prompt", pa.string()),  # JSON of the chat messages
        pa.field("completion", pa.string()),
        pa.field("weight", pa.float64()),  # 1 / the probability that the case was drawn for judgement
        pa.field("reward", pa.float64()),  # its lower bound; NULL: not known (not the logged output)
        pa.field("prompt_ids", pa.list_(pa.int32())),
        pa.field("completion_ids", pa.list_(pa.int32())),  # with the end token
        pa.field("logprobs", pa.list_(pa.float32())),  # of completion_ids when they were drawn; NULL for SFT
        pa.field("temperature", pa.float64()),  # that they were drawn at; NULL for SFT
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Datums:
    """Training rows, and how many cases gave none, by reason."""

    kind: Kind
    table: pa.Table
    dropped: Mapping[str, int]

    def write(self, path: Path) -> Path:
        """Writes Parquet; the counts travel in its metadata into the model card."""
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {
            b"tracemill.kind": self.kind.encode(),
            b"tracemill.dropped": canonical_json(dict(self.dropped)).encode(),
        }
        pq.write_table(self.table.replace_schema_metadata(about), path)
        return path


def read(path: Path) -> Datums:
    """Rows written by `Datums.write`. Raises ConfigError where the file holds something else."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ConfigError(f"{path}: no training rows can be read here: {error}") from error
    about = table.schema.metadata or {}
    if b"tracemill.kind" not in about:
        raise ConfigError(f"{path} was not written by train.datums")
    kind: Kind = next(one for one in get_args(Kind) if one.encode() == about[b"tracemill.kind"])
    return Datums(kind=kind, table=table, dropped=json.loads(about[b"tracemill.dropped"]))


def read_kind(path: Path, kind: Kind) -> Datums:
    """`read`, refusing rows that were made for another kind of training."""
    found = read(path)
    if found.kind != kind:
        raise ConfigError(f"{path} holds {found.kind} rows; this trainer learns from {kind} rows")
    return found


def build(
    cases: Sequence[Case],
    artifact: Artifact,
    *,
    kind: Kind,
    model_folder: Path,
    transitions: pa.Table | None = None,
    max_tokens: int = 1024,
    answers: Mapping[str, str] | None = None,
) -> Datums:
    """Training rows of `cases` under the prompt that `artifact` deploys, in the order of the cases.

    `model_folder` (models.resolve) gives the tokenizer. GRPO needs `transitions`: rows of schema.TRANSITIONS of these
    cases, for their token ids, log-probabilities and sampling parameters. `answers` (by case_id) are right outputs that
    replays found; SFT takes them where nobody knows one from the log. Reasons for dropping: `no_target` (nobody
    knows the right output), `no_reward`, `no_logprobs`, `greedy` and `nucleus` (drawn in a way that importance weights
    cannot correct), `other_prompt` (drawn under another prompt), `pseudonym` (personal data was in the output),
    `unbound` (a slot has no value), `tool_calls` (the right output is a tool call, which rows of text cannot teach),
    `template` (the model's chat template cannot write the prompt), `too_long` (more than `max_tokens`), `duplicate`.
    Raises ConfigError where a case belongs to the gate pool.
    """
    reserved = [case.case_id for case in cases if case.pool != "learn"]
    if reserved:
        raise ConfigError(
            f"{len(reserved)} cases are reserved for the gate and must not be trained on, such as {reserved[0]}"
        )
    if kind == "grpo" and transitions is None:
        raise ConfigError("GRPO rows need the logged transitions: pass transitions=…")
    tokenizer = _tokenizer(model_folder)
    logged = {} if transitions is None else _by_case(transitions)
    rows: list[dict[str, Any]] = []
    dropped: Counter[str] = Counter()
    seen: set[Any] = set()
    for case in cases:
        found = None if answers is None else answers.get(case.case_id)
        made = _row(case, artifact, kind, tokenizer, logged.get(case.case_id), max_tokens, found)
        if isinstance(made, str):
            dropped[made] += 1
            continue
        # equal draws of one prompt are evidence for GRPO; for SFT they are only the same row again
        identity = case.case_id if kind == "grpo" else (tuple(made["prompt_ids"]), made["completion"])
        if identity in seen:
            dropped["duplicate"] += 1
            continue
        seen.add(identity)
        rows.append(made)
    return Datums(kind=kind, table=pa.Table.from_pylist(rows, schema=SCHEMA), dropped=dict(sorted(dropped.items())))


def _row(
    case: Case,
    artifact: Artifact,
    kind: Kind,
    tokenizer: Any,
    logged: Mapping[str, Any] | None,
    max_tokens: int,
    found: str | None,
) -> dict[str, Any] | str:
    """One row, or the reason why there is none. `found`: a right output that the log does not know."""
    found = found if kind == "sft" and case.expected is None else None
    completion = (found or case.expected) if kind == "sft" else case.logged_output
    if completion is None:
        return "no_target"
    if kind == "grpo" and case.reward is None:
        return "no_reward"
    if kind == "sft" and case.calls_tools and case.correction is None and found is None:
        return "tool_calls"
    if PSEUDONYM.search(completion):
        return "pseudonym"
    try:
        messages = client.render(artifact.prompt, case.values)
    except KeyError:
        return "unbound"
    try:
        prompt_ids = list(prompts.tokens(tokenizer, messages, artifact.prompt.get("tools")))
    except prompts.UnwritableError:
        return "template"
    row: dict[str, Any] = {
        "case_id": case.case_id,
        "trajectory_id": case.trajectory_id,
        "group": case.task_group,
        "prompt": canonical_json(messages),
        "completion": completion,
        "weight": case.weight,
        "reward": case.sure_reward if kind == "grpo" or (case.correction is None and found is None) else None,
        "prompt_ids": prompt_ids,
    }
    if kind == "sft":
        row["completion_ids"] = [*tokenizer(completion, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    else:
        drawn = _draw(case, messages, prompt_ids, logged)
        if isinstance(drawn, str):
            return drawn
        row |= drawn
    if len(prompt_ids) + len(row["completion_ids"]) > max_tokens:
        return "too_long"
    return row


def _draw(
    case: Case, messages: list[dict[str, Any]], prompt_ids: list[int], logged: Mapping[str, Any] | None
) -> dict[str, Any] | str:
    """How the logged output was drawn, or why that cannot be used."""
    if logged is None or not logged["output_token_ids"] or not logged["output_logprobs"]:
        return "no_logprobs"
    ids, logprobs = logged["output_token_ids"], logged["output_logprobs"]
    if len(ids) != len(logprobs) or any(logprob is None for logprob in logprobs):
        return "no_logprobs"
    params = json.loads(logged["params"] or "{}")
    temperature = float(params.get("temperature", 1.0))
    if temperature == 0:
        return "greedy"
    if float(params.get("top_p", 1.0)) < 1:
        return "nucleus"
    sent = logged["input_token_ids"]
    if (list(sent) != prompt_ids) if sent else (tuple(messages) != case.logged_messages):
        return "other_prompt"
    return {"completion_ids": ids, "logprobs": logprobs, "temperature": temperature}


def _by_case(transitions: pa.Table) -> dict[str, dict[str, Any]]:
    columns = ["trajectory_id", "step", "input_token_ids", "output_token_ids", "output_logprobs", "params"]
    return {f"{row['trajectory_id']}/{row['step']}": row for row in transitions.select(columns).to_pylist()}


def _tokenizer(folder: Path) -> Any:
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("train", "making training rows") from error
    return AutoTokenizer.from_pretrained(folder)
