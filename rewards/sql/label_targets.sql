-- Trajectories that nobody was asked about yet, with what a label of each is worth.
with asked as (
    select distinct target_id from scores
    where target_kind = 'trajectory' and source = 'human' and name in ('label', 'correction') and user_key is not null
),
latest as (
    select target_id, name, value, evidence from scores
    where target_kind = 'trajectory' and value between 0 and 1
    qualify row_number() over (partition by target_id, name, source order by "at" desc nulls last, score_id) = 1
),
judged as (
    select target_id,
        max(value) filter (name = 'combined') as value,
        coalesce(max(value) filter (name not in ('combined', 'combined_low'))
            - min(value) filter (name not in ('combined', 'combined_low')), 0) as spread
    from latest
    group by target_id
),
-- What the gate could not decide yet, and the episodes of its pool that may: of task groups that a candidate was not
-- judged on.
undecided as (
    select site_id, candidate_id from verdicts
    qualify verdict = 'CONTINUE' and row_number() over (
        partition by site_id, channel order by "at" desc nulls last, verdict_id
    ) = 1
),
decided as (
    select candidate_id, task_group from evaluations
    where purpose = 'gate' and reward is not null and candidate_id in (select candidate_id from undecided)
),
awaited as (
    select distinct r.trajectory_id
    from undecided u
    join transitions c using (site_id)
    join trajectories r on r.trajectory_id = c.trajectory_id and r.pool = 'gate'
    anti join decided d on d.candidate_id = u.candidate_id and d.task_group = r.task_group
),
sizes as (
    select task_group, count(*) as n from trajectories where task_group is not null group by task_group
)
select t.trajectory_id as target_id, t.agent_name as agent, j.value,
    -- Of what is unknown everything can be learned; of what is sure something still can.
    (0.05 + coalesce(4 * j.value * (1 - j.value), 1)) * (0.5 + coalesce(j.spread, 0)) * ln(1 + coalesce(s.n, 1))
        * if(w.trajectory_id is null, 1, $awaited) as worth
from trajectories t
left join judged j on j.target_id = t.trajectory_id
left join sizes s using (task_group)
left join awaited w on w.trajectory_id = t.trajectory_id
anti join asked a on a.target_id = t.trajectory_id
order by t.trajectory_id
