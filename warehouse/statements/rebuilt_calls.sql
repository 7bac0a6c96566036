-- The real model calls, by `id` (the rowid of their span): by which agent they were made, and whether for a judgement.
CREATE OR REPLACE TEMP TABLE rebuilt_calls AS
WITH RECURSIVE linked AS MATERIALIZED (
    SELECT c.rowid AS id, p.rowid AS above, c.trace, c.kind, c.agent_name, c.response_id, c.start_ns, c.end_ns, c.said
    FROM temp.rebuilt_spans c
    LEFT JOIN temp.rebuilt_spans p ON p.trace = c.trace AND p.span_id = c.parent_span_id
),
parents AS MATERIALIZED (
    SELECT id, above, kind, agent_name FROM linked WHERE id IN (SELECT above FROM linked)
),
up AS (
    SELECT DISTINCT above AS id, above AS place, 1 AS steps FROM linked WHERE said AND above IS NOT NULL
    UNION ALL
    SELECT u.id, p.above, u.steps + 1
    FROM up u
    JOIN parents p ON p.id = u.place
    -- Broken logs hold rings: the walk is bounded.
    WHERE p.above IS NOT NULL AND u.steps < 64
),
-- A call belongs to the nearest agent above it.
above AS (
    SELECT u.id, arg_min(p.agent_name, u.steps) AS agent_name, bool_or(p.kind = 'evaluator') AS judging
    FROM up u
    JOIN parents p ON p.id = u.place
    GROUP BY u.id
),
calls AS MATERIALIZED (
    SELECT
        c.id, c.above, c.trace, c.agent_name, c.response_id, c.start_ns, c.end_ns,
        o.agent_name AS above_name,
        coalesce(o.judging, false) AS judging
    FROM linked c
    LEFT JOIN above o ON o.id = c.above
    WHERE c.said
),
-- Where two tracing systems write one trace, calls hang beside the agent that made them: the one that was at work
-- meanwhile, of several the one that worked shortest.
meanwhile AS (
    SELECT c.id, arg_min(a.agent_name, (a.end_ns - a.start_ns, a.id)) AS agent_name
    FROM calls c
    JOIN linked a
        ON a.trace = c.trace AND a.agent_name IS NOT NULL AND a.kind <> 'llm'
       AND a.start_ns <= c.start_ns AND a.end_ns >= coalesce(c.end_ns, c.start_ns)
    WHERE c.agent_name IS NULL AND c.above_name IS NULL
    GROUP BY c.id
),
-- A model call that contains a model call is a wrapper of it, unless each has an answer of its own.
wrappers AS (
    SELECT DISTINCT w.id
    FROM calls c
    JOIN calls w ON w.id = c.above AND w.id <> c.id
    WHERE NOT coalesce(w.response_id <> c.response_id, false)
),
-- A call that two instrumentations logged side by side is the span that says more of it. Some servers draw ids from a
-- small range: other usage, or another prompt and another answer, is another call. A cached answer is a step of its own.
answers AS (
    SELECT id, trace, response_id FROM calls ANTI JOIN wrappers USING (id) WHERE response_id IS NOT NULL
),
twice AS (
    SELECT trace, response_id FROM answers GROUP BY ALL HAVING count(*) > 1
),
ranked AS (
    SELECT
        a.id, a.trace, a.response_id, s.tokens_in, s.tokens_out, s.asked, s.answered,
        row_number() OVER (
            ORDER BY s.answered IS NULL, s.no_tokens, s.tokens_out IS NULL, s.asked IS NULL, a.id
        ) AS rank
    FROM answers a
    SEMI JOIN twice USING (trace, response_id)
    JOIN temp.rebuilt_spans s ON s.rowid = a.id
    WHERE NOT list_contains(coalesce(s.flags, []), 'cache_hit')
),
repeats AS (
    SELECT DISTINCT c.id
    FROM ranked c
    JOIN ranked b ON b.trace = c.trace AND b.response_id = c.response_id AND b.rank < c.rank
    WHERE NOT coalesce(b.tokens_in <> c.tokens_in OR b.tokens_out <> c.tokens_out, false)
      AND NOT coalesce(b.asked <> c.asked AND b.answered <> c.answered, false)
)
SELECT c.id, c.trace, coalesce(c.agent_name, c.above_name, m.agent_name) AS called_by, c.judging
FROM calls c
ANTI JOIN wrappers w ON w.id = c.id
ANTI JOIN repeats r ON r.id = c.id
LEFT JOIN meanwhile m ON m.id = c.id
