-- The episodes of the learn pool ($gate: and of the gate pool), one row each, in order of their ids: `u` is their
-- place. An episode failed where its combined reward is below a half, else (nobody judged it) where its root span ended
-- in an error; else nothing is known. `sure` is below 1 where the reward is the word of users who vote on everything.
create or replace temp table mined_episodes as
with judged as (
    select target_kind, target_id, arg_max_null(value, (coalesce("at", 0), score_id)) as reward,
        -- Of the label model an even chance is no word of anybody's.
        arg_max(
            case when evidence like '{"tier":"label_model"%' then 1 else least(1, 2 * coalesce(confidence, 1)) end,
            (coalesce("at", 0), score_id)
        ) as sure
    from scores
    where name = 'combined' and target_kind in ('trajectory', 'session')
    group by target_kind, target_id
),
places as (
    select trajectory_id, arg_min(site_id, step) filter (site_id is not null) as site_id
    from transitions
    group by trajectory_id
),
newest as (
    select max(start_ns) as start_ns from trajectories where pool = 'learn'
),
chosen as (
    select r.trajectory_id, coalesce(r.session_id, r.trajectory_id) as session_id, coalesce(r.agent_name, '') as agent,
        r.user_key, r.task_group, r.pool, r.day, r.service, r.agent_version, r.start_ns, r.end_ns, r.cost_usd, r.outcome,
        concat_ws(' ', i.cluster_id, p.site_id) as task, i.cluster_id as task_cluster_id, p.site_id as task_site_id,
        coalesce(own.reward, whole.reward) as reward,
        case when own.reward is not null then own.sure when whole.reward is not null then whole.sure else 1 end as sure
    from trajectories r
    left join judged own on own.target_kind = 'trajectory' and own.target_id = r.trajectory_id
    left join judged whole on whole.target_kind = 'session' and whole.target_id = r.session_id
    left join places p using (trajectory_id)
    left join cluster_members i on i.trajectory_id = r.trajectory_id and i.kind = 'intent'
    where (r.pool = 'learn' or $gate and r.pool = 'gate')
        -- Of attempts at one rollout the last one counts.
        and not coalesce(list_contains(r.flags, 'superseded'), false)
        and ($days is null or r.start_ns is null
            or r.start_ns >= (select start_ns from newest) - cast($days as bigint) * 86400000000000)
)
select
    cast(row_number() over (order by trajectory_id) - 1 as integer) as u,
    cast(dense_rank() over (order by agent) - 1 as integer) as agent_no,
    cast(dense_rank() over (order by agent, task) - 1 as integer) as task_no,
    * exclude (reward, outcome),
    cast(case
        when reward < 0.5 then 1
        when reward is not null then 0
        when outcome = 'error' then 1
        else -1
    end as tinyint) as failed
from chosen
