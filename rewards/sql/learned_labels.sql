-- What people and environments said of each trajectory: the first of human, env and user that knows anything. Votes
-- teach as much as their user's influence is (feedback.sql).
with latest as (
    select target_id, source, value, propensity,
        case when source = 'user' then coalesce(try_cast(try_cast(evidence as json) ->> '$.influence' as double), 1) else 1 end
            as influence
    from scores
    where target_kind = 'trajectory' and value between 0 and 1
        and (coalesce(evidence, '') like '{"score_ids":%' and source in ('human', 'user', 'env') and name <> 'combined'
            or source = 'env' and list_contains($env_names, name))
    qualify row_number() over (partition by target_id, name, source order by "at" desc nulls last, score_id) = 1
)
select l.target_id as trajectory_id, avg(l.value) as value,
    least(10.0, 1 / max(coalesce(nullif(l.propensity, 0), 1))) * max(l.influence) as weight
from latest l join trajectories r on r.trajectory_id = l.target_id
group by l.target_id, l.source
qualify row_number() over (
    partition by l.target_id order by list_position(['human', 'env', 'user'], l.source)
) = 1
order by l.target_id
