-- What a reader of an episode needs, capped: the task, and per call what it said and what its tools answered.
with calls as (
    select trajectory_id, step, span_id, agent_name as caller, input_ids, output_ids, start_ns, seq
    from transitions
    where trajectory_id in (select unnest($trajectories)) and untrainable_reason is distinct from 'judge'
),
run as (
    select trajectory_id, span_id, start_ns, seq, step, null as result from calls
    union all
    select trace_id, span_id, start_ns, seq, null, concat_ws(': ', coalesce(tool_name, name), left(tool_result, $cap))
    from spans
    where kind = 'tool' and trace_id in (select unnest($trajectories))
),
placed as (
    select *, last_value(step ignore nulls) over (
        partition by trajectory_id order by start_ns nulls last, seq nulls last, span_id rows unbounded preceding
    ) as asked
    from run
),
results as (
    select trajectory_id, asked as step, string_agg(result, chr(10) order by seq, span_id) as answered
    from placed where step is null and asked is not null
    group by all
),
ids as (
    select trajectory_id, step, 'said' as what, unnest(output_ids) as message_id, generate_subscripts(output_ids, 1) as place
    from calls
    union all
    select trajectory_id, step, 'asked', unnest(input_ids), generate_subscripts(input_ids, 1)
    from calls
    qualify step = min(step) over (partition by trajectory_id)
),
texts as (
    select message_id, any_value(role) as role, left(any_value(coalesce(nullif(text, ''), parts)), $cap) as text
    from messages
    where message_id in (select message_id from ids)
    group by message_id
),
said as (
    select i.trajectory_id, i.step, string_agg(t.text, chr(10) order by i.place) as said
    from ids i join texts t using (message_id) where i.what = 'said'
    group by all
),
asked as (
    select i.trajectory_id, first(t.text order by i.place) as task
    from ids i join texts t using (message_id) where i.what = 'asked' and t.role = 'user'
    group by i.trajectory_id
)
select c.trajectory_id, c.step, c.caller, a.task, left(s.said, $cap) as said, left(r.answered, $cap) as answered
from calls c
left join asked a using (trajectory_id)
left join said s using (trajectory_id, step)
left join results r using (trajectory_id, step)
order by c.trajectory_id, c.step
