-- What one version of a reward model says of trajectories: its latest judgement of each, and whether it flipped when it
-- was shown things in another order (`flipped` of its evidence: true, false, or the share of its runs), and whether it
-- said so since the report before. A judge of steps says the mean of an episode's, one of sessions the same of each of
-- their episodes.
with mine as (
    select target_id, if(value between 0 and 1, value, null) as value, "at",
        case lower(try_cast(evidence as json) ->> '$.flipped') when 'true' then 1.0 when 'false' then 0.0
            else try_cast(try_cast(evidence as json) ->> '$.flipped' as double) end as flipped
    from scores
    where target_kind = $level and name = $name and coalesce(version, '') = $version
    qualify row_number() over (partition by target_id order by "at" desc nulls last, score_id) = 1
),
told as (
    select case $level when 'step' then regexp_replace(target_id, '/[0-9]+$', '') else target_id end as target_id,
        value, flipped, "at"
    from mine
    where $level <> 'session'
    union all
    select t.trajectory_id, m.value, m.flipped, m."at"
    from mine m join trajectories t on t.session_id = m.target_id
    where $level = 'session'
)
select target_id, avg(value) as value, avg(flipped) as flipped, max(coalesce("at", 0)) > $since as is_new
from told
group by target_id
order by target_id
