-- What real model calls used, by day, agent and model. cost_usd is NULL where no call of the group knows its cost.
SELECT
    s.day, s.service, t.agent_name, t.model,
    count(*) AS n_calls,
    CAST(sum(s.tokens_in) AS BIGINT) AS tokens_in,
    CAST(sum(s.tokens_cache_read) AS BIGINT) AS tokens_cache_read,
    CAST(sum(s.tokens_out) AS BIGINT) AS tokens_out,
    sum(s.cost_usd) AS cost_usd,
    count(s.cost_usd) AS n_calls_with_cost
FROM transitions t
JOIN spans s ON s.trace_id = t.trajectory_id AND s.span_id = t.span_id AND s.day IS NOT DISTINCT FROM t.day
GROUP BY s.day, s.service, t.agent_name, t.model
