-- One row per wanted trace. Identity comes from the root span, else from whoever knows; sums from real model calls.
-- Of a trace whose root never came, the first span without a parent here stands in for it; how it ended is not known.
CREATE OR REPLACE TEMP TABLE rebuilt_trajectories AS
WITH named AS (
    SELECT trace, agent_name, count(*) AS n, min(rowid) AS id
    FROM temp.rebuilt_spans
    WHERE agent_name IS NOT NULL
    GROUP BY ALL
),
frequent AS (
    SELECT trace, arg_min(agent_name, (-n, id)) AS agent_name FROM named GROUP BY trace
),
flagged AS (
    SELECT trace, list_sort(list_distinct(flatten(list(flags)))) AS flags
    FROM temp.rebuilt_spans
    WHERE flags IS NOT NULL
    GROUP BY trace
),
called AS (
    SELECT
        c.trace,
        count(*) AS n_llm_calls,
        CAST(sum(s.tokens_in) AS BIGINT) AS tokens_in,
        CAST(sum(s.tokens_out) AS BIGINT) AS tokens_out,
        sum(s.cost_usd) AS cost_usd
    FROM temp.rebuilt_calls c
    JOIN temp.rebuilt_spans s ON s.rowid = c.id
    GROUP BY c.trace
),
summed AS (
    SELECT
        trace,
        min(rowid) FILTER (WHERE parent_span_id IS NULL) AS root_id,
        arg_min(session_id, rowid) AS session_id,
        arg_min(user_key, rowid) AS user_key,
        arg_min(service, rowid) AS service,
        arg_min(agent_version, rowid) AS agent_version,
        arg_min(source_format, rowid) AS source_format,
        arg_min(task_key, rowid) AS task_key,
        min(day) AS day,
        min(start_ns) AS start_ns,
        max(coalesce(end_ns, start_ns)) AS end_ns,
        count(*) AS n_spans,
        count(*) FILTER (WHERE kind = 'tool') AS n_tool_calls,
        count(*) FILTER (WHERE status = 'error') AS n_errors,
        coalesce(bool_or(tokens_in IS NOT NULL OR tokens_out IS NOT NULL) FILTER (WHERE kind = 'llm'), false) AS metered,
        coalesce(bool_or(cost_usd IS NOT NULL) FILTER (WHERE kind = 'llm'), false) AS priced
    FROM temp.rebuilt_spans
    GROUP BY trace
),
top AS (
    SELECT s.trace, min(s.rowid) AS top_id
    FROM (SELECT rowid, * FROM temp.rebuilt_spans SEMI JOIN (FROM summed WHERE root_id IS NULL) USING (trace)) s
    ANTI JOIN temp.rebuilt_spans p ON p.trace = s.trace AND p.span_id = s.parent_span_id
    GROUP BY s.trace
),
root AS (
    SELECT *
    FROM temp.rebuilt_spans
    WHERE rowid IN (SELECT root_id FROM summed UNION ALL SELECT top_id FROM top)
)
SELECT
    w.trace_id AS trajectory_id,
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
    coalesce(c.n_llm_calls, 0) AS n_llm_calls,
    t.n_tool_calls,
    t.n_errors,
    -- What a root says of itself counts only where no model call says anything: it is the sum of what is below it.
    CASE WHEN t.metered THEN c.tokens_in ELSE r.tokens_in END AS tokens_in,
    CASE WHEN t.metered THEN c.tokens_out ELSE r.tokens_out END AS tokens_out,
    CASE WHEN t.priced THEN c.cost_usd ELSE r.cost_usd END AS cost_usd,
    CASE WHEN r.parent_span_id IS NULL THEN r.status ELSE 'unset' END AS outcome,
    CASE
        WHEN a.superseded THEN list_concat(coalesce(g.flags, []), ['attempt', 'superseded'])
        WHEN a.trace IS NOT NULL THEN list_concat(coalesce(g.flags, []), ['attempt'])
        ELSE g.flags
    END AS flags
FROM summed t
JOIN wanted w ON w.trace = t.trace
LEFT JOIN called c ON c.trace = t.trace
LEFT JOIN root r ON r.trace = t.trace
LEFT JOIN frequent f ON f.trace = t.trace
LEFT JOIN flagged g ON g.trace = t.trace
LEFT JOIN temp.rebuilt_attempts a ON a.trace = t.trace
LEFT JOIN temp.rebuilt_before old ON old.trajectory_id = w.trace_id
