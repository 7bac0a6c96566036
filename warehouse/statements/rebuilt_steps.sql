-- The real model calls in their order, with what of their traces decides whether they can be learned from.
CREATE OR REPLACE TEMP TABLE rebuilt_steps AS
-- A call that no agent can be named for is the trace's only agent's; where there are several, nobody knows.
WITH alone AS (
    SELECT trace, min(agent_name) AS agent_name
    FROM temp.rebuilt_spans
    WHERE agent_name IS NOT NULL
    GROUP BY trace
    HAVING min(agent_name) = max(agent_name)
)
SELECT
    w.trace_id, s.span_id,
    CAST(row_number() OVER (PARTITION BY c.trace ORDER BY c.id) - 1 AS INTEGER) AS step,
    coalesce(c.called_by, o.agent_name) AS called_by,
    c.judging,
    coalesce(list_contains(s.flags, 'redacted'), false) AS redacted,
    coalesce(a.superseded, false) AS superseded
FROM temp.rebuilt_calls c
JOIN temp.rebuilt_spans s ON s.rowid = c.id
JOIN wanted w ON w.trace = c.trace
LEFT JOIN alone o ON o.trace = c.trace
LEFT JOIN temp.rebuilt_attempts a ON a.trace = c.trace
