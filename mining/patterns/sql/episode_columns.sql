-- What is held of the episodes, in their order. `session` numbers sessions, `user_no` users (-1: the log names none).
select
    agent_no, task_no, failed, sure,
    cast(dense_rank() over (order by session_id) - 1 as integer) as session,
    case when user_key is null then -1 else cast(dense_rank() over (order by user_key) - 1 as integer) end as user_no,
    min(start_ns) over (partition by session_id) as session_start,
    hash(coalesce(task_group, session_id)) as draw,
    start_ns, cost_usd
from mined_episodes
order by u
