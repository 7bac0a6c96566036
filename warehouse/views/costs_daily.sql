-- What real model calls used, by day, agent and model. cost_usd is NULL where no call of the group knows its cost.
SELECT
    day, service, agent_name, model,
    count(*) AS n_calls,
    CAST(sum(tokens_in) AS BIGINT) AS tokens_in,
    CAST(sum(tokens_cache_read) AS BIGINT) AS tokens_cache_read,
    CAST(sum(tokens_out) AS BIGINT) AS tokens_out,
    sum(cost_usd) AS cost_usd,
    count(cost_usd) AS n_calls_with_cost
FROM transitions
GROUP BY day, service, agent_name, model
