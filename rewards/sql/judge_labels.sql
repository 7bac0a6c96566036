-- What the judge said of trajectories, raw, and what people said: as the feedback model reads them, else as they stand.
-- What was asked for with a known probability counts by its inverse: the uncertain ones are asked for more often.
with said as (
    select target_id, try_cast(try_cast(evidence as json) ->> '$.raw' as double) as raw from scores
    where target_kind = 'trajectory' and name = $name and (try_cast(evidence as json) ->> '$.base') = $base
    qualify row_number() over (partition by target_id order by "at" desc nulls last, score_id) = 1
),
people as (
    select target_id, avg(value) as label, least(10.0, 1 / max(coalesce(nullif(propensity, 0), 1))) as weight from scores
    where target_kind = 'trajectory' and source = 'human' and value between 0 and 1
    group by target_id, name = 'feedback'
    qualify row_number() over (partition by target_id order by name = 'feedback' desc) = 1
)
select r.trajectory_id, coalesce(r.user_key, r.session_id, r.task_group, r.trajectory_id) as owner, s.raw, p.label, p.weight
from said s
join people p using (target_id)
join trajectories r on r.trajectory_id = s.target_id
where s.raw is not null
order by r.trajectory_id
