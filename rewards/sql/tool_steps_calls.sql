-- The tool calls of all trajectories at the steps that asked for them: what the model wrote, and what its tool made of it.
-- A tool is at a step by the id in the model's answer, else by the tree, else by order, as in the view tool_results.
with steps as (
    -- A judge's own call is nothing that is rewarded.
    select trajectory_id, step, span_id, parent_span_id, start_ns, seq, output_ids, tool_definitions_id
    from transitions
    where untrainable_reason is distinct from 'judge'
),
tools as (
    select trace_id as trajectory_id, span_id, parent_span_id, tool_call_id, start_ns, seq,
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
    select trajectory_id, step, unnest(output_ids) as message_id, generate_subscripts(output_ids, 1) as message from steps
),
spread as (
    select s.trajectory_id, s.step, s.message, unnest(w.calls) as call, generate_subscripts(w.calls, 1) as part
    from said s join written w using (message_id)
),
asked as (
    select trajectory_id, step, call.id as tool_call_id, coalesce(call.name, '') as tool,
        -- The very text that the model wrote where the log has it, else the JSON of what it was decoded to.
        call.arguments ->> '$' as args,
        row_number() over (partition by trajectory_id, step order by message, part) as place
    from spread
),
run as (
    select trajectory_id, span_id, parent_span_id, start_ns, seq, step from steps
    union all
    select trajectory_id, span_id, parent_span_id, start_ns, seq, null from tools
),
placed as (
    select trajectory_id, span_id, step as own, last_value(step ignore nulls) over before as last_step,
        last_value(step ignore nulls) over beside as sibling_step
    from run
    window
        before as (
            partition by trajectory_id order by start_ns nulls last, seq nulls last, span_id rows unbounded preceding
        ),
        beside as (
            partition by trajectory_id, parent_span_id order by start_ns nulls last, seq nulls last, span_id
            rows unbounded preceding
        )
),
-- An id that is used again ("call_0") means the last call before the tool that used it.
by_id as (
    select t.trajectory_id, t.span_id, coalesce(max(a.step) filter (a.step <= p.last_step), min(a.step)) as step
    from tools t
    join asked a on a.trajectory_id = t.trajectory_id and a.tool_call_id = t.tool_call_id
    join placed p on p.trajectory_id = t.trajectory_id and p.span_id = t.span_id and p.own is null
    group by t.trajectory_id, t.span_id
),
located as (
    select t.*, coalesce(i.step, c.step, p.sibling_step, p.last_step) as step,
        case when i.step is not null then t.tool_call_id end as known_id
    from tools t
    join placed p on p.trajectory_id = t.trajectory_id and p.span_id = t.span_id and p.own is null
    left join by_id i on i.trajectory_id = t.trajectory_id and i.span_id = t.span_id
    left join steps c on c.trajectory_id = t.trajectory_id and c.span_id = t.parent_span_id
),
-- What was asked for and what ran are one call where the id says so, else the first of that tool at that step, and so on.
ran as (
    select *, row_number() over (
        partition by trajectory_id, step, met order by start_ns nulls last, seq nulls last, span_id
    ) as nth
    from (select *, coalesce('id ' || known_id, 'tool ' || tool) as met from located where step is not null)
),
wanted as (
    select *, row_number() over (partition by trajectory_id, step, met order by place) as nth
    from (
        select a.*, coalesce('id ' || k.known_id, 'tool ' || a.tool) as met
        from asked a left join (select distinct trajectory_id, step, known_id from located where known_id is not null) k
            on k.trajectory_id = a.trajectory_id and k.step = a.step and k.known_id = a.tool_call_id
    )
),
calls as (
    select coalesce(w.trajectory_id, r.trajectory_id) as trajectory_id, coalesce(w.step, r.step) as step,
        w.place, r.start_ns, r.seq, r.span_id, coalesce(nullif(w.tool, ''), r.tool) as tool,
        coalesce(w.args, r.tool_args) as args, w.place is not null as is_written, r.span_id is not null as has_run,
        r.status, r.error_type, r.error_message, r.begins
    from wanted w full join ran r on r.trajectory_id = w.trajectory_id and r.step = w.step and r.met = w.met and r.nth = w.nth
)
select c.trajectory_id, c.step,
    row_number() over (
        partition by c.trajectory_id, c.step order by c.place nulls last, c.start_ns nulls last, c.seq nulls last, c.span_id
    ) - 1 as place,
    c.span_id, c.tool, c.args, s.tool_definitions_id as definitions_id, c.is_written, c.has_run,
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
) c join steps s using (trajectory_id, step)
