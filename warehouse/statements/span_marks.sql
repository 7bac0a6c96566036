-- Flags that the other spans of a trace decide. `orphan`: the parent is not there (yet). `wrapper`: a model call whose
-- nearest model calls below it, within its time, are the same call again: one with the same response id or usage, or
-- several whose usage adds up to its own; its tokens are counted below it.
CREATE OR REPLACE TEMP TABLE span_marks AS
WITH RECURSIVE up AS (
    SELECT trace_id, span_id, parent_span_id AS above, 1 AS steps
    FROM temp.span_tree
    WHERE kind = 'llm' AND parent_span_id <> span_id
    UNION ALL
    SELECT u.trace_id, u.span_id, p.parent_span_id, u.steps + 1
    FROM up u
    JOIN temp.span_tree p ON p.trace_id = u.trace_id AND p.span_id = u.above
    -- Broken logs hold rings: the walk is bounded.
    WHERE p.kind <> 'llm' AND p.parent_span_id <> u.span_id AND u.steps < 64
),
below AS (
    SELECT
        w.trace_id, w.span_id, w.tokens_in, w.tokens_out,
        c.tokens_in AS below_in,
        c.tokens_out AS below_out,
        c.response_id = w.response_id OR c.tokens_in = w.tokens_in AND c.tokens_out = w.tokens_out AS same
    FROM up u
    JOIN temp.span_tree w ON w.trace_id = u.trace_id AND w.span_id = u.above AND w.kind = 'llm'
    JOIN temp.span_tree c ON c.trace_id = u.trace_id AND c.span_id = u.span_id
    WHERE NOT coalesce(c.end_ns < w.start_ns OR c.start_ns > w.end_ns, false)
),
wrappers AS (
    SELECT trace_id, span_id
    FROM below
    GROUP BY trace_id, span_id, tokens_in, tokens_out
    HAVING coalesce(bool_or(same), false)
        OR (
            count(below_in) = count(*) AND count(below_out) = count(*)
            AND sum(below_in) = tokens_in AND sum(below_out) = tokens_out
        )
),
marked AS (
    SELECT
        t.trace_id, t.span_id, t.old_marks, t.came,
        nullif(list_filter(
            [
                CASE WHEN t.parent_span_id IS NOT NULL AND p.span_id IS NULL THEN 'orphan' END,
                CASE WHEN w.span_id IS NOT NULL THEN 'wrapper' END
            ],
            lambda mark: mark IS NOT NULL AND NOT list_contains(coalesce(t.flags, []), mark)
        ), []) AS marks
    FROM temp.span_tree t
    LEFT JOIN temp.span_tree p ON p.trace_id = t.trace_id AND p.span_id = t.parent_span_id
    LEFT JOIN wrappers w ON w.trace_id = t.trace_id AND w.span_id = t.span_id
)
SELECT trace_id, span_id, marks, came
FROM marked
WHERE marks IS DISTINCT FROM old_marks
