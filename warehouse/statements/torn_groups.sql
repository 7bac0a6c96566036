-- A task group of those given that lies in more than one pool; there must be none. Two pools are told by the least and the
-- greatest: that keeps no list of pools for each group there is.
WITH given AS MATERIALIZED (
    SELECT DISTINCT unnest($groups) AS task_group
),
placed AS (
    SELECT task_group, pool FROM task_groups SEMI JOIN given USING (task_group)
    UNION ALL
    SELECT task_group, pool FROM trajectories SEMI JOIN given USING (task_group)
)
SELECT task_group, min(pool) || ' and ' || max(pool)
FROM placed
GROUP BY task_group
HAVING min(pool) <> max(pool)
ORDER BY task_group
LIMIT 1
