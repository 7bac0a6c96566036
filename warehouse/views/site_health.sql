-- after: rewards
-- One row per version of a call site: how often it is called, how it fails, and how its episodes were judged.
WITH judged AS (
    SELECT trajectory_id, avg(value) AS reward, greatest(avg(coalesce(confidence, 1)), 0.001) AS weight
    FROM rewards
    WHERE name IN ('combined', 'reward')
    -- the combined score where there is one, else the reward that came with the log
    GROUP BY trajectory_id, combined
    QUALIFY row_number() OVER (PARTITION BY trajectory_id ORDER BY combined DESC) = 1
),
-- Whoever makes many episodes does not decide the mean: as in version_rewards.
users AS (
    SELECT
        e.site_id, e.site_version,
        sum(j.reward * j.weight) / sum(j.weight) AS reward, least(3, sqrt(sum(j.weight))) AS weight
    FROM (SELECT DISTINCT site_id, site_version, trajectory_id FROM transitions WHERE site_id IS NOT NULL) e
    JOIN judged j USING (trajectory_id)
    JOIN trajectories r USING (trajectory_id)
    GROUP BY e.site_id, e.site_version, coalesce(r.user_key, 'session ' || r.session_id, '')
),
means AS (
    SELECT site_id, site_version, sum(reward * weight) / sum(weight) AS mean_reward, count(*) AS n_users
    FROM users
    GROUP BY site_id, site_version
)
SELECT
    t.site_id, t.site_version,
    any_value(t.agent_name) AS agent_name,
    any_value(t.model) AS model,
    count(*) AS n_calls,
    count(DISTINCT t.trajectory_id) AS n_trajectories,
    count(*) FILTER (WHERE t.trainable) AS n_trainable,
    count(*) FILTER (WHERE t.status = 'error') AS n_errors,
    count(j.reward) AS n_judged,
    any_value(m.mean_reward) AS mean_reward,
    coalesce(any_value(m.n_users), 0) AS n_users,
    avg(t.tokens_in) AS mean_tokens_in,
    avg(t.tokens_out) AS mean_tokens_out,
    sum(t.cost_usd) AS cost_usd,
    median((t.end_ns - t.start_ns) / 1e6) AS median_latency_ms,
    make_timestamp_ns(min(t.start_ns)) AS first_at,
    make_timestamp_ns(max(t.start_ns)) AS last_at
FROM transitions t
LEFT JOIN judged j USING (trajectory_id)
LEFT JOIN means m ON m.site_id = t.site_id AND m.site_version IS NOT DISTINCT FROM t.site_version
WHERE t.site_id IS NOT NULL
GROUP BY t.site_id, t.site_version
