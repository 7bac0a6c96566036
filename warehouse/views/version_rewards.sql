-- after: rewards
-- One row per version of an agent and name of a judgement: what to compare versions by, however many episodes one user
-- makes.
WITH judged AS (
    SELECT
        t.agent_name, t.agent_version, r.name, r.value, t.start_ns,
        -- Who names nobody counts as one user.
        coalesce(t.user_key, 'session ' || t.session_id, '') AS owner,
        greatest(coalesce(r.confidence, 1), 0.001) AS weight
    FROM rewards r
    JOIN trajectories t USING (trajectory_id)
    WHERE NOT coalesce(list_contains(t.flags, 'superseded'), false)
),
-- The n of one user (else session) weigh together √n, at most 3; n are judgements by their confidence.
users AS (
    SELECT
        agent_name, agent_version, name,
        count(*) AS n, min(start_ns) AS first_ns, max(start_ns) AS last_ns,
        sum(value * weight) / sum(weight) AS value,
        least(3, sqrt(sum(weight))) AS weight
    FROM judged
    GROUP BY agent_name, agent_version, name, owner
)
SELECT
    agent_name, agent_version, name,
    CAST(sum(n) AS BIGINT) AS n_trajectories,
    count(*) AS n_users,
    sum(value * weight) / sum(weight) AS mean_value,
    make_timestamp_ns(min(first_ns)) AS first_at,
    make_timestamp_ns(max(last_ns)) AS last_at
FROM users
GROUP BY agent_name, agent_version, name
