-- What was told of spans in parts, for the parts that are still to come.
INSERT INTO span_parts ({columns}, part)
SELECT {columns}, part
FROM temp.deliveries
WHERE age > 0
ORDER BY trace_id, span_id
