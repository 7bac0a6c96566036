-- Task groups that only erased trajectories are in.
CREATE OR REPLACE TEMP TABLE erased_groups AS
SELECT task_group
FROM trajectories
LEFT JOIN temp.erased_traces t ON t.trace_id = trajectories.trajectory_id
WHERE task_group IS NOT NULL
GROUP BY task_group
HAVING bool_and(t.trace_id IS NOT NULL)
