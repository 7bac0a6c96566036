"""How fast do the reward models that need no LLM judge? Trajectories per second of one core, over a made-up lake.

    python bench/reward_speed.py [--trajectories 200000] [--seed 0] [--quick]

Each trajectory is a support agent's: two model calls, between them a tool call whose arguments follow a logged JSON
Schema; a fifth of the tools fail, a few arguments are malformed. Users come back in sessions of one to three episodes,
some repeat themselves, some say thanks, a third of the episodes are rated. Models run on one thread of DuckDB, first
over a lake that nobody has judged, then again where nothing is new (`again`). CPU time counts, the making of score ids
included; writing to the lake is not in it. The goal is 50,000 trajectories/s per core for the models that are SQL.
Prints one JSON object as its last line.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from tracemill.rewards import RewardSpec, build
from tracemill.schema import TABLES
from tracemill.warehouse import Lake

GOAL = 50_000
SECOND = 1_000_000_000
NOW = 1_790_000_000 * SECOND
SPECS = (
    RewardSpec(kind="feedback", name="feedback"),
    RewardSpec(kind="signals", name="signals"),
    RewardSpec(kind="tools", name="tools"),
    RewardSpec(kind="tool_steps", name="tool_steps"),
    RewardSpec(kind="sql_expression", name="brief", options={"view": "transitions", "expression": "tokens_out < 900"}),
    RewardSpec(kind="regex", name="polite", options={"pattern": "(?i)order"}),
    RewardSpec(kind="json_schema", name="json", options={"schema": {"type": "object"}}),
)
SQL = ("feedback", "signals", "tools", "tool_steps", "brief")
DEFINITIONS = [
    {
        "type": "function",
        "function": {
            "name": "lookup_order",
            "description": "Finds an order by its number and says where it is.",
            "parameters": {
                "type": "object",
                "properties": {"order_id": {"type": "string"}, "detail": {"type": "string", "enum": ["short", "full"]}},
                "required": ["order_id"],
                "additionalProperties": False,
            },
        },
    }
]
# One row per trajectory: who, when, what is asked for, and what goes wrong.
_EPISODES = """
create table episode as
select i, md5('t' || i || $seed) as id, md5('s' || (i // 3) || $seed) as session,
    'user-' || (i // 3) % greatest($n // 20, 1) as who,
    hash(i, 'tool', $seed) % 100 as luck, hash(i, 'said', $seed) % 100 as mood, hash(i, 'rated', $seed) % 3 as rated,
    i % 3 as nth, 1789000000::bigint * 1000000000 + (i // 3) * 10000000000 + (i % 3) * 120000000000 as start_ns,
    'Where is order ' || (hash(i // 3, $seed) % 90000) || ' that I placed on ' ||
        ['Monday', 'Tuesday', 'Friday', 'Sunday'][1 + (hash(i // 3, 'day', $seed) % 4)::integer] || '? ' ||
        repeat('It should have been at my door by now and nobody tells me anything. ',
            (hash(i, 'long', $seed) % 4)::integer) as ask
from range($n) t(i)
"""
_TURNS = """
create table turn as
select *, case
        when nth = 0 or mood < 55 then ask || ' (' || i || ')'
        when mood < 65 then 'Please, where is the order, the one that I placed, number ' || i
        when mood < 75 then 'That is wrong, ' || i || ' is not what I asked'
        when mood < 90 then 'Thank you! And what about ' || i || '?'
        else ask
    end as said,
    '{"order_id": "' || i || case when luck < 3 then '' when luck < 6 then '", "x": 1}' else '"}' end as args,
    case when luck < 20 then 'error' else 'ok' end as status
from episode
"""
_ROWS = {
    "messages": """
        select distinct md5(said) as message_id, 'user' as role, said as text,
            to_json([{'type': 'text', 'content': said}])::varchar as parts from turn
        union all by name
        select md5('call' || id) as message_id, 'assistant' as role, '' as text, to_json([{
            'type': 'tool_call', 'id': 'call_' || i, 'name': 'lookup_order', 'arguments': args}])::varchar as parts
        from turn
        union all by name
        select md5('result' || id) as message_id, 'tool' as role, 'Order ' || i || ': at the depot' as text,
            to_json([{'type': 'tool_call_response', 'id': 'call_' || i, 'response': 'at the depot'}])::varchar as parts
        from turn
        union all by name
        select md5('answer' || id) as message_id, 'assistant' as role, 'Order ' || i || ' is at the depot.' as text,
            to_json([{'type': 'text', 'content': 'Order ' || i || ' is at the depot.'}])::varchar as parts from turn
        union all by name
        select 'tools' as message_id, 'tools' as role, null as text, $definitions as parts
        union all by name
        select 'system' as message_id, 'system' as role, 'You are a support agent.' as text, '[]' as parts
    """,
    "trajectories": """
        select id as trajectory_id, session as session_id, who as user_key, 'desk' as agent_name,
            'v' || (i % 2) as agent_version, 'g' || (i % 1000) as task_group, 'learn' as pool, start_ns,
            start_ns + 9000000000 as end_ns, 3 as n_spans, 2 as n_llm_calls, 1 as n_tool_calls, 'ok' as outcome
        from turn
    """,
    "transitions": """
        select id as trajectory_id, step::integer as step, left(id, 12) || step as span_id, 'desk' as agent_name,
            ['system'] as system_ids, 'tools' as tool_definitions_id, 300 as tokens_out,
            case step when 0 then [md5(said)] else [md5(said), md5('call' || id), md5('result' || id)] end as input_ids,
            case step when 0 then [md5('call' || id)] else [md5('answer' || id)] end as output_ids,
            start_ns + step * 5000000000 as start_ns, step * 2 as seq, who as user_key, session as session_id
        from turn, range(2) s(step)
    """,
    "spans": """
        select id as trace_id, left(id, 12) || 't' as span_id, 'tool' as kind, 'lookup_order' as tool_name,
            'call_' || i as tool_call_id, args as tool_args, status, 1 as seq, start_ns + 3000000000 as start_ns,
            case when status = 'error' then 'no such order ' || i end as error_message,
            session as session_id, who as user_key
        from turn
        union all by name
        select id as trace_id, left(id, 12) || step as span_id, 'llm' as kind, 'ok' as status, step * 2 as seq,
            start_ns + step * 5000000000 as start_ns, session as session_id, who as user_key
        from turn, range(2) s(step)
    """,
    "scores": """
        select md5('score' || id) as score_id, 'trajectory' as target_kind, id as target_id, 'thumbs' as name,
            (luck >= 25)::double as value, 'user' as source, who as user_key, start_ns as "at"
        from turn where rated = 0
    """,
}


def fill(lake: Lake, n: int, seed: int) -> None:
    """Rows as ingest leaves them, without the detour over files."""
    con = duckdb.connect()
    con.execute(_EPISODES, {"n": n, "seed": str(seed)})
    con.execute(_TURNS)
    with lake.transaction("made up") as tx:
        for name, sql in _ROWS.items():
            rows = con.execute(sql, {"definitions": json.dumps(DEFINITIONS)} if "$definitions" in sql else {})
            found = rows.to_arrow_table()
            schema = TABLES[name].schema
            columns = [
                found[field.name].cast(field.type)
                if field.name in found.column_names
                else pa.nulls(len(found), field.type)
                for field in schema
            ]
            # Not by the methods of the transaction: they would have to rebuild what is told here row by row.
            tx.con.register("made_up", pa.table(columns, schema=schema))
            tx.con.execute(f"insert into {name} by name from made_up")
            tx.con.unregister("made_up")
    con.close()


def timed(model: Any, lake: Lake) -> tuple[float, pa.Table]:
    with lake.reader() as con:
        con.execute("set threads = 1")
        before = time.process_time()
        rows = model.score(con, now_ns=NOW)
        return time.process_time() - before, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trajectories", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    n, repeats = (5_000, 1) if given.quick else (given.trajectories, given.repeats)
    models = build(SPECS, root=Path())
    first: dict[str, list[float]] = {model.name: [] for model in models}
    written: dict[str, int] = {}
    again: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake.create(Path(folder) / "lake")
        fill(lake, n, given.seed)
        for _ in range(repeats):  # interleaved: what else the machine does meets all of them
            for model in models:
                seconds, rows = timed(model, lake)
                first[model.name].append(seconds)
                written[model.name] = len(rows)
        for model in models:
            with lake.transaction(model.name) as tx:
                tx.insert("scores", timed(model, lake)[1])
        for model in models:
            again[model.name], rows = timed(model, lake)
            if len(rows):
                raise SystemExit(f"{model.name} judged {len(rows)} targets twice")
        lake.close()
    print(f"{platform.platform()}, Python {platform.python_version()}, DuckDB {duckdb.__version__}, one thread")
    print(f"{n:,} trajectories, {2 * n:,} model calls, {n:,} tool calls; median of {repeats}, spread in brackets\n")
    print(f"{'model':<14}{'rows':>10}{'CPU s':>9}{'(min … max)':>18}{'traj/s':>10}{'again, traj/s':>15}  goal")
    figures: dict[str, Any] = {}
    for name, seconds in first.items():
        middle = statistics.median(seconds)
        spread = f"({min(seconds):.2f} … {max(seconds):.2f})"
        goal = "" if name not in SQL else "met" if n / middle >= GOAL else "missed"
        row = f"{name:<14}{written[name]:>10,}{middle:>9.2f}{spread:>18}{n / middle:>10,.0f}{n / again[name]:>15,.0f}"
        print(f"{row}  {goal}")
        figures[name] = {
            "rows": written[name],
            "cpu_s": round(middle, 3),
            "per_s": round(n / middle),
            "again_per_s": round(n / again[name]),
        }
    print(json.dumps({"bench": "reward_speed", "trajectories": n, "goal_per_s": GOAL, "models": figures}))


if __name__ == "__main__":
    main()
