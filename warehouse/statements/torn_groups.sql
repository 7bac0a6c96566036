-- A task group that lies in more than one pool; there must be none.
SELECT task_group, string_agg(DISTINCT pool, ' and ' ORDER BY pool)
FROM (
    SELECT task_group, pool FROM task_groups
    UNION ALL
    SELECT task_group, pool FROM trajectories WHERE task_group IS NOT NULL
)
GROUP BY task_group
HAVING count(DISTINCT pool) > 1
ORDER BY task_group
LIMIT 1
