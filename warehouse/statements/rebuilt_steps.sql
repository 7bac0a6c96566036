-- The real model calls in their order, with what of their traces decides whether they can be learned from.
CREATE OR REPLACE TEMP TABLE rebuilt_steps AS
-- A call that no agent can be named for is the trace's only agent's; where there are several, nobody knows.
WITH alone AS (
    SELECT trace, min(agent_name) AS agent_name
    FROM temp.rebuilt_spans
    WHERE agent_name IS NOT NULL
    GROUP BY trace
    HAVING min(agent_name) = max(agent_name)
),
-- A proxy logs what the engine answered as a span of its own below the call: there are the token ids. Where something in
-- the call's text had to be redacted, they would still say it.
engine AS (
    SELECT c.id, arg_min(e.place, e.rowid) AS engine_place
    FROM temp.rebuilt_calls c
    JOIN temp.rebuilt_spans s ON s.rowid = c.id
    JOIN temp.rebuilt_spans e ON e.trace = s.trace AND e.parent_span_id = s.span_id
    WHERE NOT e.no_tokens AND e.kind <> 'llm' AND s.no_tokens
      AND NOT list_has_any(list_concat(coalesce(s.flags, []), coalesce(e.flags, [])), ['redacted'])
    GROUP BY c.id
)
SELECT
    c.id, c.trace, s.place,
    CAST(row_number() OVER (PARTITION BY c.trace ORDER BY c.id) - 1 AS INTEGER) AS step,
    coalesce(c.called_by, o.agent_name) AS called_by,
    c.judging,
    coalesce(list_contains(s.flags, 'redacted'), false) AS redacted,
    coalesce(a.superseded, false) AS superseded,
    e.engine_place
FROM temp.rebuilt_calls c
JOIN temp.rebuilt_spans s ON s.rowid = c.id
LEFT JOIN alone o ON o.trace = c.trace
LEFT JOIN temp.rebuilt_attempts a ON a.trace = c.trace
LEFT JOIN engine e ON e.id = c.id
