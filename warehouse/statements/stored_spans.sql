-- The spans that the lake has of the traces that came, as far as marks need them, and whether they came again.
CREATE OR REPLACE TEMP TABLE stored_spans AS
SELECT
    o.trace_id, o.span_id, o.day, o.parent_span_id, o.kind, o.start_ns, o.end_ns, o.tokens_in, o.tokens_out,
    o.response_id, {told_flags} AS flags, o.marks AS old_marks,
    k.span_id IS NOT NULL AS came
FROM (SELECT * FROM spans SEMI JOIN temp.known_days USING (trace_id) WHERE {near}) o
LEFT JOIN (
    SELECT trace_id, span_id FROM temp.span_keys
    UNION
    SELECT trace_id, span_id FROM temp.folded
) k ON k.trace_id = o.trace_id AND k.span_id = o.span_id
