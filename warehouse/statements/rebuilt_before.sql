-- What is kept of the wanted trajectories: their task groups.
CREATE OR REPLACE TEMP TABLE rebuilt_before AS
SELECT trajectory_id, task_group, pool
FROM trajectories
WHERE {before}
