-- What came in, and what got other marks by it.
INSERT INTO spans ({columns})
WITH came AS (
    SELECT {columns} FROM staged SEMI JOIN (FROM temp.span_changes WHERE NOT of_parts) USING (_row)
    UNION ALL
    SELECT {columns} FROM temp.folded SEMI JOIN (FROM temp.span_changes WHERE of_parts) USING (trace_id, span_id)
    UNION ALL
    SELECT {columns} FROM temp.remarked_spans
)
SELECT {marked}
FROM came s
LEFT JOIN temp.span_marks m USING (trace_id, span_id)
ORDER BY s.trace_id, s.seq
