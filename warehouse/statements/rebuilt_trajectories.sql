-- One row per wanted trace. Identity comes from the root span, else from whoever knows; sums from real model calls.
-- Of a trace whose root never came, the first span without a parent here stands in for it; how it ended is not known.
CREATE OR REPLACE TEMP TABLE rebuilt_trajectories AS
WITH s AS (
    SELECT * FROM temp.rebuilt_spans
),
root AS (
    SELECT *
    FROM s
    WHERE is_root
    QUALIFY row_number() OVER (PARTITION BY trace_id ORDER BY parent_span_id IS NOT NULL, nth) = 1
),
frequent AS (
    SELECT trace_id, agent_name
    FROM s
    WHERE agent_name IS NOT NULL
    GROUP BY trace_id, agent_name
    QUALIFY row_number() OVER (PARTITION BY trace_id ORDER BY count(*) DESC, min(nth)) = 1
),
flagged AS (
    SELECT trace_id, list_sort(list_distinct(flatten(list(flags)))) AS flags
    FROM s
    WHERE flags IS NOT NULL
    GROUP BY trace_id
),
summed AS (
    SELECT
        trace_id,
        arg_min(session_id, nth) AS session_id,
        arg_min(user_key, nth) AS user_key,
        arg_min(service, nth) AS service,
        arg_min(agent_version, nth) AS agent_version,
        arg_min(source_format, nth) AS source_format,
        arg_min(task_key, nth) AS task_key,
        min(day) AS day,
        min(start_ns) AS start_ns,
        max(coalesce(end_ns, start_ns)) AS end_ns,
        count(*) AS n_spans,
        count(*) FILTER (WHERE is_call) AS n_llm_calls,
        count(*) FILTER (WHERE kind = 'tool') AS n_tool_calls,
        count(*) FILTER (WHERE status = 'error') AS n_errors,
        CAST(sum(tokens_in) FILTER (WHERE is_call) AS BIGINT) AS tokens_in,
        CAST(sum(tokens_out) FILTER (WHERE is_call) AS BIGINT) AS tokens_out,
        sum(cost_usd) FILTER (WHERE is_call) AS cost_usd,
        coalesce(bool_or(tokens_in IS NOT NULL OR tokens_out IS NOT NULL) FILTER (WHERE kind = 'llm'), false) AS metered,
        coalesce(bool_or(cost_usd IS NOT NULL) FILTER (WHERE kind = 'llm'), false) AS priced
    FROM s
    GROUP BY trace_id
)
SELECT
    t.trace_id AS trajectory_id,
    coalesce(r.session_id, t.session_id) AS session_id,
    coalesce(r.user_key, t.user_key) AS user_key,
    coalesce(r.service, t.service) AS service,
    coalesce(r.agent_name, f.agent_name) AS agent_name,
    coalesce(r.agent_version, t.agent_version) AS agent_version,
    coalesce(r.source_format, t.source_format) AS source_format,
    coalesce(r.task_key, t.task_key) AS task_key,
    old.task_group,
    old.pool,
    t.day,
    t.start_ns,
    t.end_ns,
    t.n_spans,
    t.n_llm_calls,
    t.n_tool_calls,
    t.n_errors,
    -- What a root says of itself counts only where no model call says anything: it is the sum of what is below it.
    CASE WHEN t.metered THEN t.tokens_in ELSE r.tokens_in END AS tokens_in,
    CASE WHEN t.metered THEN t.tokens_out ELSE r.tokens_out END AS tokens_out,
    CASE WHEN t.priced THEN t.cost_usd ELSE r.cost_usd END AS cost_usd,
    CASE WHEN r.parent_span_id IS NULL THEN r.status ELSE 'unset' END AS outcome,
    CASE
        WHEN a.superseded THEN list_concat(coalesce(g.flags, []), ['attempt', 'superseded'])
        WHEN a.trace_id IS NOT NULL THEN list_concat(coalesce(g.flags, []), ['attempt'])
        ELSE g.flags
    END AS flags
FROM summed t
LEFT JOIN root r USING (trace_id)
LEFT JOIN frequent f USING (trace_id)
LEFT JOIN flagged g USING (trace_id)
LEFT JOIN temp.rebuilt_attempts a USING (trace_id)
LEFT JOIN trajectories old ON old.trajectory_id = t.trace_id
