-- The traces of the changed spans as they will be: what marks are made from.
CREATE OR REPLACE TEMP TABLE span_tree AS
WITH came AS (
    SELECT {columns} FROM staged SEMI JOIN (FROM temp.span_changes WHERE NOT of_parts) USING (_row)
    UNION ALL
    SELECT {columns} FROM temp.folded SEMI JOIN (FROM temp.span_changes WHERE of_parts) USING (trace_id, span_id)
),
stays AS (
    SELECT o.*
    FROM temp.stored_spans o
    SEMI JOIN temp.span_changes c ON c.trace_id = o.trace_id
    ANTI JOIN temp.span_changes d ON d.trace_id = o.trace_id AND d.span_id = o.span_id
)
SELECT
    trace_id, span_id, day, parent_span_id, kind, start_ns, end_ns, tokens_in, tokens_out, response_id,
    flags, old_marks, false AS came
FROM stays
UNION ALL
SELECT
    trace_id, span_id, day, parent_span_id, kind, start_ns, end_ns, tokens_in, tokens_out, response_id,
    flags, NULL, true
FROM came
