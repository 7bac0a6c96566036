-- Members of task groups in which somebody was not looked at yet: with what people or the environment say of them, and
-- how they were ranked before.
with mine as (
    select target_id, try_cast(evidence as json) as evidence from scores
    where target_kind = 'trajectory' and name = $name and version = $version
    qualify row_number() over (partition by target_id order by "at" desc nulls last, score_id) = 1
),
labels as (
    select target_id, avg(value) as label from scores
    where target_kind = 'trajectory' and source in ('human', 'env') and value between 0 and 1
    group by target_id, source
    qualify row_number() over (partition by target_id order by source = 'human' desc) = 1
),
own as (
    select distinct trajectory_id from transitions where untrainable_reason is distinct from 'judge'
),
members as (
    select r.task_group, r.trajectory_id, l.label,
        try_cast(m.evidence ->> '$.worth' as double) as worth, m.evidence ->> '$.anchor' as anchor
    from trajectories r
    semi join own on own.trajectory_id = r.trajectory_id
    left join labels l on l.target_id = r.trajectory_id
    left join mine m on m.target_id = r.trajectory_id
    where r.task_group is not null and ($agent is null or r.agent_name glob $agent)
    qualify count(*) over (partition by r.task_group) > 1
        and bool_or(m.target_id is null) over (partition by r.task_group)
)
select * from members order by md5($salt || task_group), task_group, md5($salt || trajectory_id), trajectory_id
