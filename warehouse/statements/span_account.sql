-- What became of the spans and parts that came in, by source: written, merged into a span beside others, or nothing.
WITH came AS (
    SELECT source_uri FROM staged
    UNION ALL
    SELECT source_uri FROM staged_parts
),
used AS (
    SELECT s.source_uri, true AS wrote
    FROM staged s
    JOIN (FROM temp.span_changes WHERE NOT of_parts) USING (_row)
    UNION ALL
    SELECT
        d.source_uri,
        c.span_id IS NOT NULL
            AND row_number() OVER (PARTITION BY d.trace_id, d.span_id ORDER BY d.part <> 'whole', d._row) = 1
    FROM temp.deliveries d
    LEFT JOIN temp.span_changes c USING (trace_id, span_id)
    WHERE d.age = 2
)
SELECT
    c.source_uri,
    coalesce(u.spans, 0) AS spans,
    coalesce(u.merged, 0) AS merged,
    c.n - coalesce(u.spans, 0) - coalesce(u.merged, 0) AS duplicates
FROM (SELECT source_uri, count(*) AS n FROM came GROUP BY source_uri) c
LEFT JOIN (
    SELECT source_uri, count(*) FILTER (wrote) AS spans, count(*) FILTER (NOT wrote) AS merged
    FROM used
    GROUP BY source_uri
) u ON u.source_uri IS NOT DISTINCT FROM c.source_uri
ORDER BY c.source_uri
