-- The spans of the wanted traces with their place in the trace: which has no parent here, which is a real model call, by
-- which agent and whether for a judgement.
CREATE OR REPLACE TEMP TABLE rebuilt_spans AS
WITH RECURSIVE s AS (
    SELECT * FROM spans SEMI JOIN wanted USING (trace_id) WHERE {near}
),
placed AS MATERIALIZED (
    SELECT
        row_number() OVER () AS id,
        seq,
        trace_id, span_id, parent_span_id, kind, agent_name, response_id, start_ns, end_ns, tokens_in, tokens_out,
        CASE WHEN len(input_ids) > 0 THEN hash(input_ids) END AS asked,
        CASE WHEN len(output_ids) > 0 THEN hash(output_ids) END AS answered,
        output_token_ids IS NULL AS no_tokens,
        list_contains(coalesce(flags, []), 'cache_hit') AS cached,
        -- Canned turns are no calls, copied ones were made and paid for elsewhere, and a wrapper's call is counted
        -- below it.
        kind = 'llm' AND NOT coalesce(list_has_any(flags, ['wrapper', 'synthetic', 'copied']), false) AS said
    FROM s
),
-- Apart from the rest, because sorting carries along all columns of its rows.
ordered AS (
    SELECT
        id, row_number() OVER (PARTITION BY trace_id ORDER BY start_ns NULLS LAST, seq NULLS LAST, span_id) AS nth
    FROM (SELECT id, trace_id, start_ns, seq, span_id FROM placed)
),
linked AS MATERIALIZED (
    SELECT c.* EXCLUDE (seq), p.id AS above, o.nth
    FROM placed c
    JOIN ordered o ON o.id = c.id
    LEFT JOIN placed p ON p.trace_id = c.trace_id AND p.span_id = c.parent_span_id
),
up AS (
    SELECT id, above, 1 AS steps FROM linked WHERE kind = 'llm' AND above IS NOT NULL
    UNION ALL
    SELECT u.id, p.above, u.steps + 1
    FROM up u
    JOIN linked p ON p.id = u.above
    -- Broken logs hold rings: the walk is bounded.
    WHERE p.above IS NOT NULL AND u.steps < 64
),
-- A call belongs to the nearest agent above it.
above AS (
    SELECT u.id, arg_min(p.agent_name, u.steps) AS agent_name, bool_or(p.kind = 'evaluator') AS judging
    FROM up u
    JOIN linked p ON p.id = u.above
    GROUP BY u.id
),
-- Where two tracing systems write one trace, calls hang beside the agent that made them: the one that was at work
-- meanwhile, of several the one that worked shortest.
meanwhile AS (
    SELECT c.id, arg_min(a.agent_name, (a.end_ns - a.start_ns, a.nth)) AS agent_name
    FROM linked c
    LEFT JOIN above o ON o.id = c.id
    JOIN linked a
        ON a.trace_id = c.trace_id AND a.agent_name IS NOT NULL AND a.kind <> 'llm'
       AND a.start_ns <= c.start_ns AND a.end_ns >= coalesce(c.end_ns, c.start_ns)
    WHERE c.kind = 'llm' AND c.agent_name IS NULL AND o.agent_name IS NULL
    GROUP BY c.id
),
-- A model call that contains a model call is a wrapper of it, unless each has an answer of its own.
wrappers AS (
    SELECT DISTINCT w.id
    FROM linked c
    JOIN linked w ON w.id = c.above AND w.id <> c.id
    WHERE w.said AND c.said AND NOT coalesce(w.response_id <> c.response_id, false)
),
-- A call that two instrumentations logged side by side is the span that says more of it. Some servers draw ids from a
-- small range: other usage, or another prompt and another answer, is another call. A cached answer is a step of its own.
ranked AS (
    SELECT
        *,
        row_number() OVER (
            ORDER BY answered IS NULL, no_tokens, tokens_out IS NULL, asked IS NULL, nth, id
        ) AS rank
    FROM linked
    ANTI JOIN wrappers USING (id)
    WHERE said AND NOT cached AND response_id IS NOT NULL
),
repeats AS (
    SELECT DISTINCT c.id
    FROM ranked c
    JOIN ranked b ON b.trace_id = c.trace_id AND b.response_id = c.response_id AND b.rank < c.rank
    WHERE NOT coalesce(b.tokens_in <> c.tokens_in OR b.tokens_out <> c.tokens_out, false)
      AND NOT coalesce(b.asked <> c.asked AND b.answered <> c.answered, false)
),
told AS MATERIALIZED (
    SELECT
        k.trace_id, k.span_id, k.nth,
        k.above IS NULL AS is_root,
        k.said AND w.id IS NULL AND r.id IS NULL AS is_call,
        coalesce(k.agent_name, o.agent_name, m.agent_name) AS called_by,
        coalesce(o.judging, false) AS judging
    FROM linked k
    LEFT JOIN above o ON o.id = k.id
    LEFT JOIN meanwhile m ON m.id = k.id
    LEFT JOIN wrappers w ON w.id = k.id
    LEFT JOIN repeats r ON r.id = k.id
)
SELECT s.*, t.* EXCLUDE (trace_id, span_id)
FROM s
JOIN told t ON t.trace_id = s.trace_id AND t.span_id = s.span_id
