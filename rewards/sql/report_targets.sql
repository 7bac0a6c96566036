-- Every trajectory with what the model said of it, what is known of it, and what it is sliced by.
with people as (
    -- What the feedback model made of people's words: one label a trajectory.
    -- How often users rate is an estimate, and no draw.
    select target_id, value, case when source = 'human' then propensity end as propensity,
        -- The thousand votes of one user weigh as much as they count for.
        case when source = 'user' then try_cast(try_cast(evidence as json) ->> '$.influence' as double) end as influence
    from scores
    where target_kind = 'trajectory' and name = 'feedback' and source in ('human', 'user')
        and coalesce(evidence, '') like '{"score_ids":%'
    qualify row_number() over (partition by target_id order by "at" desc nulls last, source, score_id) = 1
),
-- What was asked for with a known probability, undiluted by what users volunteered.
sampled as (
    select target_id, avg(value) as value, max(propensity) as propensity from scores
    where target_kind = 'trajectory' and source = 'human' and propensity > 0 and value between 0 and 1
        and coalesce(evidence, '') not like '{"score_ids":%'
    group by target_id
),
env as (
    select target_id, value from scores
    where target_kind = 'trajectory' and source = 'env' and name in ('reward', 'feedback')
    qualify row_number() over (partition by target_id order by name = 'reward' desc, "at" desc nulls last, score_id) = 1
),
lengths as (
    select trajectory_id, ntile(3) over (order by n_spans, trajectory_id) as tercile from trajectories
)
select t.trajectory_id, s.value as said, s.flipped, coalesce(s.is_new, false) as is_new,
    case when p.value between 0 and 1 then p.value end as label, greatest(coalesce(p.influence, 1), 1e-6) as weight,
    coalesce(a.value, case when p.propensity > 0 and p.value between 0 and 1 then p.value end) as sampled,
    case when a.value is not null then a.propensity else p.propensity end as propensity,
    case when e.value between 0 and 1 then e.value end as env,
    coalesce(t.task_group, t.session_id, t.trajectory_id) as cluster, t.task_group,
    t.agent_name as agent, t.agent_version, t.service, t.source_format,
    case l.tercile when 1 then 'short' when 2 then 'middle' else 'long' end as length
from trajectories t
join lengths l using (trajectory_id)
left join said s on s.target_id = t.trajectory_id
left join people p on p.target_id = t.trajectory_id
left join sampled a on a.target_id = t.trajectory_id
left join env e on e.target_id = t.trajectory_id
order by t.trajectory_id
