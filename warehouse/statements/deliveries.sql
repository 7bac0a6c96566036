-- All that was ever told of the spans in part_keys, each delivery once and of whole spans only the one that counts.
CREATE OR REPLACE TEMP TABLE deliveries AS
WITH told AS (
    SELECT {columns}, part, 0 AS age, NULL AS _row
    FROM span_parts SEMI JOIN temp.part_keys USING (trace_id, span_id)
    UNION ALL
    -- A span of the lake without parts was told as a whole, once.
    SELECT {as_told}, 'whole', 1, NULL
    FROM (SELECT * FROM spans WHERE {near}) o
    SEMI JOIN temp.part_keys USING (trace_id, span_id)
    ANTI JOIN span_parts USING (trace_id, span_id)
    UNION ALL
    SELECT {columns}, 'whole', 2, _row
    FROM staged SEMI JOIN temp.span_keys USING (_row) SEMI JOIN temp.part_keys USING (trace_id, span_id)
    UNION ALL
    SELECT {columns}, part, 2, _row
    FROM staged_parts
    WHERE source_uri IS NULL OR source_uri NOT IN (SELECT source_uri FROM known_objects)
),
once AS (
    SELECT * FROM told QUALIFY row_number() OVER (PARTITION BY part, {compared} ORDER BY age, _row) = 1
)
SELECT *
FROM once
QUALIFY part <> 'whole' OR row_number() OVER (
    PARTITION BY trace_id, span_id, part
    ORDER BY revised_ns DESC NULLS LAST, ingested_at DESC NULLS LAST, age DESC, _row DESC
) = 1
