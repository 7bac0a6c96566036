-- What came in, and what got other marks by it. The table's own order sorts them.
INSERT INTO spans ({columns})
WITH came AS (
    SELECT {columns} FROM arrivals
    UNION ALL
    SELECT {columns} FROM temp.folded SEMI JOIN (FROM temp.span_changes WHERE of_parts) USING (trace_id, span_id)
    UNION ALL
    SELECT {columns} FROM temp.remarked_spans
)
SELECT {marked}
FROM came s
LEFT JOIN temp.span_marks m USING (trace_id, span_id)
