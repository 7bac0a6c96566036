"""Cases: the logged calls of one site, bound to its current template, with what is known about the right output."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from tracemill.chat import answer_text
from tracemill.mining.binding import bind
from tracemill.mining.lake import Messages, table
from tracemill.records import Case, ChatMessage, Pool, Site, Template


def load(
    con: duckdb.DuckDBPyConnection,
    site: Site,
    *,
    pool: Pool | None,
    since_ns: int | None = None,
    allow_leak: bool = False,
) -> list[Case]:
    """Cases of a site from one pool (None: both), oldest first.

    They are the calls that `site.template` binds, and calls of versions that differ from it in demonstrations only:
    they ask the same, and their values fill the same slots.

    Calls marked untrainable and calls without a pool are left out, and so is everything that showed the agent its
    reward, unless `allow_leak`. `since_ns` keeps calls that are known to have started then or later. The reward is the
    trajectory's `combined` score, else its `reward`, its own or its session's; `reward_low` is the lower bound that
    came with it. The weight is one over the probability with which the judgement was drawn, 1 where that is not logged.

    A correction counts for the call (span or step) that it names. One that names a trajectory, or a session with a
    single trajectory at this site, counts for all its calls of a site without a conversation (each was one attempt at
    the same thing) and for the last call of a site with one.
    """
    if "reward_leak" in site.flags and not allow_leak:
        return []
    wanted = {"site_id": site.site_id, "pool": pool, "since_ns": since_ns, "allow_leak": allow_leak}
    rows = table(con, "load_cases", wanted).to_pylist()
    talks = "conversation" in site.template.slots
    return [_case(row, call, site, talks) for row, call in zip(rows, bound(con, site, rows), strict=True) if call]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What one logged call of a site sent and answered."""

    logged: tuple[ChatMessage, ...]
    answer: tuple[ChatMessage, ...]
    values: Mapping[str, Any]
    """With which the site's template renders to `logged`."""


def bound(con: duckdb.DuckDBPyConnection, site: Site, rows: Sequence[Mapping[str, Any]]) -> list[Bound | None]:
    """The calls of rows with site_version, system_ids, input_ids and output_ids, in their order.

    None where a message is not in the lake, and where neither the site's template nor one that differs in
    demonstrations only binds the call.
    """
    asks = _turns(site.template)
    others = {
        row["site_version"]: template
        for row in table(con, "known_sites").to_pylist()
        if row["site_id"] == site.site_id and _turns(template := Template.from_json(row["template"])) == asks
    }
    return [
        None if said is None else _bound(row["site_version"], *said, site, others)
        for row, said in zip(rows, logged(con, rows), strict=True)
    ]


Said = tuple[ChatMessage, ...]


def logged(con: duckdb.DuckDBPyConnection, rows: Sequence[Mapping[str, Any]]) -> list[tuple[Said, Said] | None]:
    """What the calls of rows with system_ids, input_ids and output_ids sent and answered, in their order.

    None where a message is not in the lake.
    """
    messages = Messages(con)
    messages.fetch(i for row in rows for column in ("system_ids", "input_ids", "output_ids") for i in row[column] or ())
    found: list[tuple[Said, Said] | None] = []
    for row in rows:
        sent = _said(messages, [*(row["system_ids"] or ()), *(row["input_ids"] or ())])
        answer = _said(messages, row["output_ids"] or ())
        found.append(None if sent is None or answer is None else (tuple(sent), tuple(answer)))
    return found


def _bound(version: str, sent: Said, answer: Said, site: Site, others: Mapping[str, Template]) -> Bound | None:
    values = bind(site.template, sent) if sent else None
    if sent and values is None and version in others:
        values = bind(others[version], sent)
    return None if values is None else Bound(logged=sent, answer=answer, values=values)


def _turns(template: Template) -> list[Mapping[str, Any]]:
    """A template without the constant turns that it shows the model (demonstrations)."""
    return [
        item
        for item in template.messages
        if item.get("role") not in ("user", "assistant")
        or any(not isinstance(piece, str) for piece in item.get("content") or ())
    ]


def _case(row: Mapping[str, Any], call: Bound, site: Site, talks: bool) -> Case:
    correction, propensity = row["own_correction"], row["own_propensity"]
    if correction is None and (row["is_last"] or not talks):
        correction, propensity = row["shared_correction"], row["shared_propensity"]
    if propensity is None:
        propensity = row["reward_propensity"]
    return Case(
        case_id=f"{row['trajectory_id']}/{row['step']}",
        trajectory_id=row["trajectory_id"],
        step=row["step"],
        steps=row["steps"],
        site_id=site.site_id,
        task_key=row["task_key"],
        task_group=row["task_group"],
        pool=row["pool"],
        values=call.values,
        logged_messages=call.logged,
        logged_output=answer_text(call.answer),
        calls_tools=any(message.get("tool_calls") for message in call.answer),
        reward=row["reward"],
        reward_low=row["reward_low"],
        correction=correction,
        weight=1.0 if not propensity else 1.0 / propensity,
        task=json.loads(row["attributes"]) if row["attributes"] else {},
        user=row["owner"],
    )


def _said(messages: Messages, ids: Sequence[str]) -> list[ChatMessage] | None:
    """The messages in order; None where one is not in the lake."""
    found = [messages.get(message_id) for message_id in ids]
    said = [message for message in found if message is not None]
    return said if len(said) == len(found) else None
