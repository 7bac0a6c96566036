-- Trajectories that two people labelled: what the first two of them said, in the order of their keys.
with raters as (
    select target_id, user_key, avg(value) as value from scores
    where target_kind = 'trajectory' and source = 'human' and value between 0 and 1 and user_key is not null
        and coalesce(evidence, '') not like '{"score_ids":%'
    group by target_id, user_key
),
numbered as (
    select *, row_number() over (partition by target_id order by user_key) as place from raters
)
select a.value as one, b.value as other
from numbered a join numbered b using (target_id)
where a.place = 1 and b.place = 2
order by target_id
