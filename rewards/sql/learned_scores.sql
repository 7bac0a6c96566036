-- What cheap judges said of each trajectory, one row per name; of steps their mean. Nothing that a label may stand behind.
with latest as (
    select case target_kind when 'step' then regexp_replace(target_id, '/[0-9]+$', '') else target_id end as trajectory_id,
        target_kind, name, value
    from scores
    where target_kind in ('trajectory', 'step') and source in ('code', 'model', 'llm')
        and list_contains($families, split_part(coalesce(family, ''), ':', 1)) and name not in ($name, 'combined')
    qualify row_number() over (
        partition by target_kind, target_id, name order by "at" desc nulls last, score_id
    ) = 1
)
select trajectory_id, name || case target_kind when 'step' then ' (steps)' else '' end as name, avg(value) as value
from latest
where value is not null and ($trajectories is null or list_contains($trajectories, trajectory_id))
group by all
order by all
