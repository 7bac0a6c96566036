-- What each trajectory was asked (the last user message of its first call) and what it said last.
with calls as (
    select t.trajectory_id, arg_min(t.input_ids, t.step) as asked, arg_max(t.output_ids[-1], t.step) as last_id
    from transitions t semi join embedded using (trajectory_id)
    where t.untrainable_reason is distinct from 'judge'
    group by t.trajectory_id
),
ids as (
    select trajectory_id, unnest(asked) as message_id, generate_subscripts(asked, 1) as place from calls
),
said as (
    select message_id, any_value(role) as role,
        any_value(case when not regexp_matches(text, $tells) then left(text, 2000) end) as text
    from messages
    where text <> '' and (message_id in (select message_id from ids) or message_id in (select last_id from calls))
    group by message_id
),
tasks as (
    select i.trajectory_id, arg_max(m.text, i.place) as task
    from ids i join said m using (message_id)
    where m.role = 'user' and m.text is not null
    group by i.trajectory_id
)
select c.trajectory_id, t.task, m.text as answer
from calls c
left join tasks t using (trajectory_id)
left join said m on m.message_id = c.last_id
