-- One row per cluster and day: how many episodes it had, and how many of those failed (as findings take it: combined
-- reward below a half, where nobody judged it an error of the root span).
WITH judged AS (
    SELECT target_kind, target_id, arg_max_null(value, (coalesce("at", 0), score_id)) AS reward
    FROM scores
    WHERE name = 'combined' AND target_kind IN ('trajectory', 'session')
    GROUP BY target_kind, target_id
),
episodes AS (
    SELECT m.kind, m.cluster_id, r.day,
        CASE
            WHEN coalesce(own.reward, whole.reward) IS NOT NULL THEN coalesce(own.reward, whole.reward) < 0.5
            WHEN r.outcome = 'error' THEN true
        END AS failed
    FROM cluster_members m
    JOIN trajectories r USING (trajectory_id)
    LEFT JOIN judged own ON own.target_kind = 'trajectory' AND own.target_id = r.trajectory_id
    LEFT JOIN judged whole ON whole.target_kind = 'session' AND whole.target_id = r.session_id
    WHERE m.cluster_id IS NOT NULL
)
SELECT
    e.kind, e.cluster_id, any_value(c.name) AS name, e.day,
    count(*) AS n,
    count(e.failed) AS n_judged,
    count(*) FILTER (WHERE e.failed) AS n_failed
FROM episodes e
JOIN clusters c USING (cluster_id)
GROUP BY e.kind, e.cluster_id, e.day
