-- All calls of some trajectories at one site, in order, and whether the last call of the trajectory is among them.
with calls as (
    select trajectory_id, step, site_id, site_version, system_ids, input_ids, output_ids
    from transitions
    where trajectory_id in (select unnest($trajectories))
)
select trajectory_id, step, site_version, system_ids, input_ids, output_ids,
    max(step) over (partition by trajectory_id) = max(last_step) over (partition by trajectory_id) as to_the_end
from (select *, max(step) over (partition by trajectory_id) as last_step from calls)
where site_id = $site_id
order by trajectory_id, step
