"""The facts of a report, all of them answers of SQL queries over the lake."""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tracemill.errors import QueryError
from tracemill.records import Artifact
from tracemill.stats import clustered_mean
from tracemill.warehouse import Lake
from tracemill.warehouse import sql as queries

QUERIES: tuple[tuple[str, str], ...] = (
    (
        "How often does the agent succeed, by day and prompt version?",
        """SELECT agent_version, n_trajectories AS tickets, round(mean_value, 2) AS success
FROM version_rewards WHERE name = 'combined' ORDER BY first_at""",
    ),
    (
        "Which tool calls fail, and how?",
        """SELECT tool_name, left(error_message, 44) AS error, count(*) AS calls
FROM tool_calls WHERE status = 'error'
GROUP BY ALL ORDER BY calls DESC LIMIT 5""",
    ),
    (
        "What did each candidate score on the tuning cases, and what did the gate say?",
        """SELECT c.optimizer, round(c.tune_score, 2) AS tuning, v.verdict, round(v.delta, 2) AS difference,
       round(v.e_value, 1) AS e_value
FROM candidates c LEFT JOIN verdicts v USING (candidate_id)
WHERE c.branch <> 'production' ORDER BY v.verdict NULLS LAST, tuning DESC NULLS LAST LIMIT 8""",
    ),
    (
        "What do calls cost in tokens and time, by model?",
        """SELECT model, count(*) AS calls, round(avg(tokens_in)) AS tokens_in, round(avg(tokens_out), 1) AS tokens_out,
       round(median(latency_ms)) AS median_ms
FROM llm_calls GROUP BY model ORDER BY calls DESC""",
    ),
    (
        "Which logged conversations does the newest release rest on?",
        """SELECT r.channel, left(r.bundle_id, 12) AS bundle, len(c.lineage) AS conversations,
       c.lineage[1] AS first_trace
FROM releases r JOIN candidates c USING (candidate_id) ORDER BY r.at DESC LIMIT 1""",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One artifact's success somewhere: mean reward with its 95 % interval over task groups."""

    name: str
    where: str
    n: int
    groups: int
    mean: float | None
    low: float | None
    high: float | None
    tokens_in: float | None = None
    tokens_out: float | None = None
    latency_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One example query with what it answered."""

    question: str
    statement: str
    table: pa.Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything a report shows."""

    title: str
    gate: tuple[Arm, ...]
    live: tuple[Arm, ...]
    decisions: tuple[Mapping[str, Any], ...]
    guardrails: Mapping[str, tuple[Mapping[str, Any], ...]]
    diff: str
    runs: tuple[Mapping[str, Any], ...]
    releases: tuple[Mapping[str, Any], ...]
    answers: tuple[Answer, ...]


def gather(lake: Lake, *, title: str, versions: Mapping[str, str]) -> Facts:
    """Facts of everything in the lake. `versions` names the agent versions whose live success is compared."""
    con = lake.reader()

    def select(statement: str, *params: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = con.execute(statement, list(params)).to_arrow_table().to_pylist()
        return rows

    decisions = select(
        "SELECT v.*, c.branch, c.optimizer FROM verdicts v JOIN candidates c USING (candidate_id) ORDER BY v.at"
    )
    answers = []
    for question, statement in QUERIES:
        try:
            table = queries.query(lake, statement)
        except QueryError as error:
            table = pa.table({"error": [str(error)]})
        answers.append(Answer(question=question, statement=statement, table=table))
    return Facts(
        title=title,
        gate=tuple(_gate_arms(select)),
        live=tuple(_live_arms(select, versions)),
        decisions=tuple(decisions),
        guardrails={row["verdict_id"]: tuple(json.loads(row["guardrails"] or "[]")) for row in decisions},
        diff=_prompt_diff(select),
        runs=tuple(select("SELECT * FROM runs ORDER BY started_ns")),
        releases=tuple(select('SELECT * FROM releases ORDER BY "at"')),
        answers=tuple(answers),
    )


def _arm(name: str, where: str, rows: Sequence[Mapping[str, Any]]) -> Arm:
    judged = [row for row in rows if row["reward"] is not None]
    interval = clustered_mean(
        [float(row["reward"]) for row in judged], [str(row["task_group"]) for row in judged], per="cluster"
    )

    def average(key: str) -> float | None:
        values = [row[key] for row in rows if row.get(key) is not None]
        return sum(values) / len(values) if values else None

    return Arm(
        name=name,
        where=where,
        n=len(judged),
        groups=len({row["task_group"] for row in judged}),
        mean=None if interval is None else interval.estimate,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        tokens_in=average("tokens_in"),
        tokens_out=average("tokens_out"),
        latency_ms=average("latency_ms"),
    )


def _gate_arms(select: Any) -> list[Arm]:
    rows = select(
        "SELECT c.branch, e.*, e.latency_ns / 1e6 AS latency_ms "
        "FROM evaluations e JOIN candidates c USING (candidate_id) "
        "WHERE e.purpose = 'gate' AND e.night_id = (SELECT max(night_id) FROM evaluations WHERE purpose = 'gate')"
    )
    best = select(_BEST_OF_GATE)
    shown = {row["candidate_id"]: row["branch"] for row in best} | {row["baseline_id"]: "production" for row in best}
    names = {
        "production": "production",
        "prompt": "best prompt",
        "weights": "best weights",
        "together": "best prompt and weights together",
    }
    return [
        _arm(label, "gate", [row for row in rows if shown.get(row["candidate_id"]) == branch])
        for branch, label in names.items()
        if branch in shown.values()
    ]


_BEST_OF_GATE = """
SELECT c.branch, v.candidate_id, v.baseline_id FROM verdicts v JOIN candidates c USING (candidate_id)
WHERE v.night_id = (SELECT max(night_id) FROM evaluations WHERE purpose = 'gate')
QUALIFY 1 = row_number() OVER (
    PARTITION BY v.site_id, c.branch ORDER BY v.verdict = 'PROMOTE' DESC, v.delta DESC NULLS LAST
)
"""
"""Of the newest night with a gate, one candidate per site and branch: one that passed, else the better one."""


def _live_arms(select: Any, versions: Mapping[str, str]) -> list[Arm]:
    """What each agent version came to after the last night."""
    arms = []
    for version, label in versions.items():
        rows = select(
            "SELECT t.task_group, r.value AS reward, l.tokens_in, l.tokens_out, l.latency_ms "
            "FROM trajectories t LEFT JOIN rewards r ON r.trajectory_id = t.trajectory_id AND r.name = 'combined' "
            "LEFT JOIN (SELECT trajectory_id, avg(tokens_in) AS tokens_in, avg(tokens_out) AS tokens_out, "
            "avg(latency_ms) AS latency_ms FROM llm_calls GROUP BY trajectory_id) l "
            "ON l.trajectory_id = t.trajectory_id "
            "WHERE t.agent_version = ? AND t.start_ns > (SELECT max(ended_ns) FROM runs)",
            version,
        )
        if rows:
            arms.append(_arm(label, "live", rows))
    return arms


def _prompt_diff(select: Any) -> str:
    """Unified diff from production's prompt to the best prompt candidate's, as readable text."""
    production = select("SELECT artifact FROM candidates WHERE branch = 'production' ORDER BY \"at\" LIMIT 1")
    best = select(
        "SELECT c.artifact FROM candidates c JOIN verdicts v USING (candidate_id) "
        "WHERE c.branch = 'prompt' ORDER BY v.at DESC LIMIT 1"
    )
    if not production or not best:
        return ""
    before = readable_prompt(Artifact.from_json(production[0]["artifact"]))
    after = readable_prompt(Artifact.from_json(best[0]["artifact"]))
    return "\n".join(
        difflib.unified_diff(before.splitlines(), after.splitlines(), "production", "best prompt", lineterm="", n=2)
    )


def readable_prompt(artifact: Artifact) -> str:
    """A prompt artifact as people read it: one line per message, slots in braces."""
    return "\n\n".join(map(_readable, artifact.prompts))


def _readable(prompt: Mapping[str, Any]) -> str:
    lines: list[str] = []
    demos = prompt.get("demonstrations") or {}
    for item in prompt["messages"]:
        if item.get("demonstrations"):
            if demos.get("select") == "nearest":
                lines.append(f"[the {demos.get('k')} nearest of {len(demos.get('pool', []))} demonstrations]")
            for demo in demos.get("pool", []):
                lines.append(" → ".join(str(turn.get("content", "")) for turn in demo["messages"]))
        elif item.get("conversation"):
            lines.append("[the conversation]")
        else:
            pieces = [piece if isinstance(piece, str) else "{" + piece["slot"] + "}" for piece in item["content"]]
            lines.append(f"{item['role']}: {''.join(pieces)}")
    return "\n".join(lines)
