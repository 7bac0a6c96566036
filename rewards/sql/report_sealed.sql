-- How much more the model says than sealed models do, on the trajectories that both judged.
with sealed as (
    select target_id, name, value from scores
    where target_kind = 'trajectory' and list_contains($sealed, name) and value between 0 and 1
    qualify row_number() over (partition by target_id, name order by "at" desc nulls last, score_id) = 1
)
select z.name, count(*) as n, avg(s.value) - avg(z.value) as gap
from sealed z join said s using (target_id)
where s.value is not null
group by z.name
order by z.name
