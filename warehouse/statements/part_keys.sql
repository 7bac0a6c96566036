-- Spans that are told in parts: parts of them came in, or parts of them are known and the whole came in.
CREATE OR REPLACE TEMP TABLE part_keys AS
SELECT trace_id, span_id
FROM staged_parts
WHERE source_uri IS NULL OR source_uri NOT IN (SELECT source_uri FROM known_objects)
UNION
SELECT trace_id, span_id FROM temp.span_keys SEMI JOIN (FROM span_parts WHERE {parted}) USING (trace_id, span_id)
