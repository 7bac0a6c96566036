-- The spans of the wanted traces with their place in the trace: which has no parent here, which is a real model call.
CREATE OR REPLACE TEMP TABLE rebuilt_spans AS
WITH s AS (
    SELECT * FROM spans SEMI JOIN wanted USING (trace_id) WHERE {near}
)
SELECT
    s.*,
    row_number() OVER (PARTITION BY s.trace_id ORDER BY s.start_ns NULLS LAST, s.seq NULLS LAST, s.span_id) AS nth,
    s.parent_span_id IS NULL
        OR NOT EXISTS (SELECT 1 FROM s p WHERE p.trace_id = s.trace_id AND p.span_id = s.parent_span_id) AS is_root,
    -- A model call that contains a model call is a wrapper of it, and its tokens are the inner call's tokens. Canned
    -- turns are no calls, and copied ones were made and paid for elsewhere.
    s.kind = 'llm'
        AND NOT coalesce(list_has_any(s.flags, ['wrapper', 'synthetic', 'copied']), false)
        AND NOT EXISTS (
            SELECT 1 FROM s c
            WHERE c.trace_id = s.trace_id AND c.parent_span_id = s.span_id AND c.kind = 'llm' AND c.span_id <> s.span_id
              AND NOT coalesce(list_has_any(c.flags, ['wrapper', 'synthetic', 'copied']), false)
        ) AS is_call
FROM s
