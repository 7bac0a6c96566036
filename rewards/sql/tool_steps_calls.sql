-- The tool calls of all trajectories at the steps that asked for them: what the model wrote, and what its tool made of it.
-- A tool is at a step by the id in the model's answer, else by the tree, else by order, as in the view tool_results.
-- Steps and tools are numbered: their ids are long, and are compared often.
with steps as materialized (
    -- A judge's own call is nothing that is rewarded.
    select row_number() over () as step_id, trajectory_id, step, span_id, parent_span_id, start_ns, seq, output_ids,
        tool_definitions_id
    from transitions
    where untrainable_reason is distinct from 'judge'
),
tools as materialized (
    select row_number() over () as tool_id, trace_id as trajectory_id, span_id, parent_span_id, tool_call_id, start_ns, seq,
        coalesce(tool_name, name, '') as tool, tool_args, status, error_type, error_message,
        left(ltrim(tool_result), 200) as begins
    from spans
    where kind = 'tool'
),
written as (
    select message_id, list_filter(
        from_json(any_value(parts), '[{"type":"VARCHAR","id":"VARCHAR","name":"VARCHAR","arguments":"JSON"}]'),
        lambda p: p.type = 'tool_call'
    ) as calls
    from messages
    where role = 'assistant' and contains(parts, '"tool_call"') and json_valid(parts)
    group by message_id
),
said as (
    select step_id, trajectory_id, step, unnest(output_ids) as message_id, generate_subscripts(output_ids, 1) as message
    from steps
),
spread as (
    select s.step_id, s.trajectory_id, s.step, s.message, unnest(w.calls) as call, generate_subscripts(w.calls, 1) as part
    from said s join written w using (message_id)
),
asked as materialized (
    select step_id, trajectory_id, step, call.id as tool_call_id, coalesce(call.name, '') as tool,
        -- The very text that the model wrote where the log has it, else the JSON of what it was decoded to.
        call.arguments ->> '$' as args,
        message * 4294967296 + part as place
    from spread
),
ids as (
    select trajectory_id, tool_call_id, arg_min(step_id, step) as step_id, min(step) < max(step) as is_reused
    from asked
    where tool_call_id is not null
    group by trajectory_id, tool_call_id
),
found as materialized (
    select t.tool_id, i.step_id as by_id, coalesce(i.is_reused, false) as is_reused, c.step_id as by_tree
    from tools t
    left join ids i on i.trajectory_id = t.trajectory_id and i.tool_call_id = t.tool_call_id
    left join steps c on c.trajectory_id = t.trajectory_id and c.span_id = t.parent_span_id
),
-- What is told neither by an id of one step nor by the tree is told by the order of all that ran.
open as (
    select distinct t.trajectory_id
    from tools t join found f using (tool_id)
    where f.is_reused or (f.by_id is null and f.by_tree is null)
),
run as (
    select trajectory_id, null::bigint as tool_id, span_id, parent_span_id, start_ns, seq, step, step_id
    from steps semi join open using (trajectory_id)
    union all
    select trajectory_id, tool_id, span_id, parent_span_id, start_ns, seq, null, null
    from tools semi join open using (trajectory_id)
),
placed as (
    select tool_id, last_value(step ignore nulls) over before as last_step,
        last_value(step_id ignore nulls) over before as last_id, last_value(step_id ignore nulls) over beside as sibling_id
    from run
    window
        before as (
            partition by trajectory_id order by start_ns nulls last, seq nulls last, span_id rows unbounded preceding
        ),
        beside as (
            partition by trajectory_id, parent_span_id order by start_ns nulls last, seq nulls last, span_id
            rows unbounded preceding
        )
    qualify tool_id is not null
),
-- An id that is used again ("call_0") means the last call before the tool that used it.
by_last as (
    select t.tool_id,
        coalesce(arg_max(a.step_id, a.step) filter (a.step <= p.last_step), arg_min(a.step_id, a.step)) as step_id
    from tools t
    join found f on f.tool_id = t.tool_id and f.is_reused
    join placed p on p.tool_id = t.tool_id
    join asked a on a.trajectory_id = t.trajectory_id and a.tool_call_id = t.tool_call_id
    group by t.tool_id
),
located as materialized (
    select t.*, coalesce(l.step_id, f.by_id, f.by_tree, p.sibling_id, p.last_id) as step_id,
        case when f.by_id is not null then t.tool_call_id end as known_id
    from tools t
    join found f using (tool_id)
    left join placed p using (tool_id)
    left join by_last l using (tool_id)
),
-- What was asked for and what ran are one call where the id says so, else the first of that tool at that step, and so on.
ran as (
    select *, row_number() over (
        partition by step_id, met order by start_ns nulls last, seq nulls last, span_id
    ) as nth
    from (select *, coalesce('id ' || known_id, 'tool ' || tool) as met from located where step_id is not null)
),
wanted as (
    select *, row_number() over (partition by step_id, met order by place) as nth
    from (
        select a.*, coalesce('id ' || k.known_id, 'tool ' || a.tool) as met
        from asked a left join (select distinct step_id, known_id from located where known_id is not null) k
            on k.step_id = a.step_id and k.known_id = a.tool_call_id
    )
),
calls as (
    select coalesce(w.step_id, r.step_id) as step_id,
        w.place, r.start_ns, r.seq, r.span_id, coalesce(nullif(w.tool, ''), r.tool, '') as tool,
        coalesce(w.args, r.tool_args) as args, w.place is not null as is_written, r.span_id is not null as has_run,
        r.status, r.error_type, r.error_message, r.begins
    from wanted w full join ran r on r.step_id = w.step_id and r.met = w.met and r.nth = w.nth
)
select s.trajectory_id, s.step, c.place, c.start_ns, c.seq, c.span_id, c.tool, c.args, s.tool_definitions_id as definitions_id, c.is_written, c.has_run,
    coalesce(c.error_message, c.error_type, c.begins) as why, c.failed,
    c.failed and regexp_matches(
        concat_ws(' ', c.error_type, left(c.error_message, 200), c.begins), '(?i)time[sd]?[ _-]?out|deadline[ _]exceeded'
    ) as late
from (
    select *, coalesce(
        status = 'error' or error_type is not null
        or (status is distinct from 'ok' and regexp_matches(left(begins, 60), $error)), false
    ) as failed
    from calls
) c join steps s using (step_id)
