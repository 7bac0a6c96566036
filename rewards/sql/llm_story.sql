-- What a model that judges episodes is shown of them: the agent's instructions, the task, and per call what users said
-- since, what the agent said, and what its tools answered. Of a longer field head and tail are kept.
with calls as (
    select trajectory_id, step, span_id, agent_name as caller, system_ids, input_ids, output_ids, start_ns, seq
    from transitions
    where trajectory_id in (select unnest($trajectories)) and untrainable_reason is distinct from 'judge'
),
run as (
    select trajectory_id, span_id, start_ns, seq, step, null as result from calls
    union all
    select trace_id, span_id, start_ns, seq, null, concat_ws(': ', coalesce(tool_name, name), tool_result, error_message)
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
    select trajectory_id, asked as step, string_agg(result, chr(10) order by seq, span_id) as text
    from placed where step is null and asked is not null
    group by all
),
ids as (
    select trajectory_id, step, 'said' as what, unnest(output_ids) as message_id, generate_subscripts(output_ids, 1) as place
    from calls
    union all
    select trajectory_id, step, 'heard', unnest(input_ids), generate_subscripts(input_ids, 1)
    from calls
    union all
    select trajectory_id, step, 'told', unnest(system_ids), generate_subscripts(system_ids, 1)
    from calls
    qualify step = min(step) over (partition by trajectory_id)
),
texts as (
    select message_id, any_value(role) as role, any_value(coalesce(nullif(text, ''), parts)) as text
    from messages
    where message_id in (select message_id from ids)
    group by message_id
),
said as (
    select i.trajectory_id, i.step, i.what, string_agg(t.text, chr(10) order by i.place) as text
    from ids i join texts t using (message_id) where i.what in ('said', 'told')
    group by all
),
-- A conversation comes again with every call: what a user said counts where it was first heard.
heard as (
    select i.trajectory_id, i.message_id, min(i.step) as step, max_by(i.place, i.step) as place, any_value(t.text) as text
    from ids i join texts t using (message_id) where i.what = 'heard' and t.role = 'user'
    group by all
),
first as (select trajectory_id, min(step) as step from calls group by trajectory_id),
users as (
    select h.trajectory_id, h.step, string_agg(h.text, chr(10) order by h.place) as text
    from heard h join first f on f.trajectory_id = h.trajectory_id and h.step > f.step
    group by all
),
tasks as (
    -- Before the last one stand demonstrations, or an earlier conversation.
    select h.trajectory_id, max_by(h.text, h.place) as text
    from heard h join first f on f.trajectory_id = h.trajectory_id and h.step = f.step
    group by all
)
select c.trajectory_id, c.step, c.caller, i.text as instructions, k.text as task, u.text as "user", s.text as said,
    r.text as answered
from calls c
left join said i on i.trajectory_id = c.trajectory_id and i.step = c.step and i.what = 'told'
left join tasks k on k.trajectory_id = c.trajectory_id
left join users u on u.trajectory_id = c.trajectory_id and u.step = c.step
left join said s on s.trajectory_id = c.trajectory_id and s.step = c.step and s.what = 'said'
left join results r on r.trajectory_id = c.trajectory_id and r.step = c.step
order by c.trajectory_id, c.step
