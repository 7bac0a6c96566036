-- One row per task group: how differently its episodes ended. Where the variance is 0, no answer was better than
-- another: the group teaches nothing to who learns from comparisons. NULL: fewer than two episodes were judged.
WITH judged AS (
    SELECT target_kind, target_id, arg_max_null(value, (coalesce("at", 0), score_id)) AS reward
    FROM scores
    WHERE name = 'combined' AND target_kind IN ('trajectory', 'session')
    GROUP BY target_kind, target_id
),
episodes AS (
    SELECT r.task_group, r.pool, coalesce(own.reward, whole.reward) AS reward
    FROM trajectories r
    LEFT JOIN judged own ON own.target_kind = 'trajectory' AND own.target_id = r.trajectory_id
    LEFT JOIN judged whole ON whole.target_kind = 'session' AND whole.target_id = r.session_id
    WHERE r.task_group IS NOT NULL AND NOT coalesce(list_contains(r.flags, 'superseded'), false)
)
SELECT
    task_group, any_value(pool) AS pool,
    count(*) AS n,
    count(reward) AS n_judged,
    avg(reward) AS mean_reward,
    CASE WHEN count(reward) > 1 THEN var_pop(reward) END AS variance
FROM episodes
GROUP BY task_group
