-- What the caller of each episode wants: the last user message of its first model call, as the task groups take it.
create or replace temp table mined_texts as
with firsts as (
    select trajectory_id, arg_min(input_ids, step) as input_ids
    from transitions
    where untrainable_reason is distinct from 'judge'
    group by trajectory_id
),
ids as (
    select e.u, unnest(f.input_ids) as message_id, generate_subscripts(f.input_ids, 1) as place
    from firsts f
    join mined_episodes e using (trajectory_id)
),
messages_of as (
    select message_id, any_value(left(text, 6000)) as text
    from messages
    where role = 'user' and text <> ''
    group by message_id
)
select i.u, arg_max(m.text, i.place) as text
from ids i
join messages_of m using (message_id)
group by i.u
