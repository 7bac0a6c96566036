-- What one version of a reward model says of trajectories: its latest judgement of each, and whether it flipped when it
-- was shown things in another order (`flipped` of its evidence: true, false, or the share of its runs), and whether it
-- said so since the report before.
with mine as (
    select target_id, value, evidence, "at" from scores
    where target_kind = 'trajectory' and name = $name and version = $version
    qualify row_number() over (partition by target_id order by "at" desc nulls last, score_id) = 1
)
select target_id, value,
    case lower(try_cast(evidence as json) ->> '$.flipped') when 'true' then 1.0 when 'false' then 0.0
        else try_cast(try_cast(evidence as json) ->> '$.flipped' as double) end as flipped,
    coalesce("at", 0) > $since as is_new
from mine
order by target_id
