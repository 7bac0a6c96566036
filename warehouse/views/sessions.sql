-- One row per session: its episodes together. An episode without a session is a session of its own.
SELECT
    coalesce(session_id, trajectory_id) AS session_id,
    any_value(user_key) AS user_key,
    count(*) AS n_trajectories,
    list(trajectory_id ORDER BY start_ns NULLS LAST, trajectory_id) AS trajectory_ids,
    list(DISTINCT agent_name) FILTER (WHERE agent_name IS NOT NULL) AS agent_names,
    min(day) AS day,
    make_timestamp_ns(min(start_ns)) AS started_at,
    make_timestamp_ns(max(end_ns)) AS ended_at,
    CAST(sum(n_llm_calls) AS BIGINT) AS n_llm_calls,
    CAST(sum(n_tool_calls) AS BIGINT) AS n_tool_calls,
    CAST(sum(n_errors) AS BIGINT) AS n_errors,
    CAST(sum(tokens_in) AS BIGINT) AS tokens_in,
    CAST(sum(tokens_out) AS BIGINT) AS tokens_out,
    sum(cost_usd) AS cost_usd
FROM trajectories
GROUP BY coalesce(session_id, trajectory_id)
