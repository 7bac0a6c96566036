-- Trajectories without a group get theirs; a group once given stays, so a task never changes its pool.
UPDATE trajectories
SET task_group = a.task_group, pool = a.pool
FROM (
    SELECT trajectory_id, task_group, pool
    FROM assigned
    QUALIFY row_number() OVER (PARTITION BY trajectory_id ORDER BY _row) = 1
) a
WHERE trajectories.trajectory_id = a.trajectory_id
  AND trajectories.task_group IS NULL
  AND a.task_group IS NOT NULL
