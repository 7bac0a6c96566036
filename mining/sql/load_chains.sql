-- All calls of some trajectories, whatever their site, in order.
select trajectory_id, step, site_id, site_version, system_ids, input_ids, output_ids
from transitions
where trajectory_id in (select unnest($trajectories))
order by trajectory_id, step
