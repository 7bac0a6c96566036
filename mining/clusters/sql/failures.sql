-- How each failed episode failed: its last error without what differs from time to time, and its last answer.
create or replace temp table mined_texts as
with failed as (
    select u, trajectory_id from mined_episodes where failed = 1
),
errors as (
    select f.u, arg_max(
        concat_ws(' ', coalesce(s.tool_name, s.name), observation(coalesce(s.error_message, s.tool_result, s.error_type))),
        (coalesce(s.start_ns, 0), coalesce(s.seq, 0), s.span_id)
    ) as text
    from spans s
    join failed f on f.trajectory_id = s.trace_id
    where went_wrong(s.status, s.error_type) and (s.error_message is not null or s.error_type is not null)
        or s.kind in ('tool', 'retriever') and s.tool_result is not null
            and tool_failed(s.status, s.error_type, s.tool_result)
    group by f.u
),
lasts as (
    select f.u, arg_max(t.output_ids[-1], t.step) as message_id
    from transitions t
    join failed f using (trajectory_id)
    where t.untrainable_reason is distinct from 'judge'
    group by f.u
),
answers as (
    select message_id, any_value(left(text, 1200)) as text
    from messages
    where role = 'assistant' and text <> ''
    group by message_id
)
select f.u, concat_ws(e'\n', e.text, a.text) as text
from failed f
left join errors e using (u)
left join lasts l using (u)
left join answers a on a.message_id = l.message_id
where e.text is not null or a.text is not null
