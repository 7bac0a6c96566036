-- The spans that the deliveries make: on the whole span lie the changes that are not older, in the order of their
-- revisions; each column shows the topmost that says something. Messages logged apart fill what nobody else says.
CREATE OR REPLACE TEMP TABLE folded AS
WITH whole AS (
    SELECT trace_id, span_id, revised_ns FROM temp.deliveries WHERE part = 'whole'
),
layers AS (
    SELECT *, 0 AS layer FROM temp.deliveries WHERE part = 'whole'
    UNION ALL
    SELECT d.*, row_number() OVER (
        PARTITION BY d.trace_id, d.span_id
        ORDER BY
            d.revised_ns NULLS FIRST, d.ingested_at, d.source_uri, d.source_line, d.end_ns NULLS FIRST,
            hash(d.attributes), hash(d.output_ids)
    )
    FROM temp.deliveries d
    LEFT JOIN whole w USING (trace_id, span_id)
    WHERE d.part = 'change'
      AND (d.revised_ns IS NULL OR w.revised_ns IS NULL OR d.revised_ns >= w.revised_ns)
),
topmost AS (
    SELECT
        trace_id, span_id,
        {topmost},
        arg_min(seq, layer) AS seq,
        arg_min(source_uri, layer) AS source_uri,
        arg_min(source_line, layer) AS source_line,
        arg_min(source_format, layer) AS source_format,
        arg_min(dialect, layer) AS dialect,
        max(revised_ns) AS revised_ns,
        max(ingested_at) AS ingested_at,
        list(attributes ORDER BY layer) FILTER (attributes IS NOT NULL) AS attributes,
        flatten(list(flags) FILTER (flags IS NOT NULL)) AS flags,
        bool_or(layer = 0) AS complete
    FROM layers
    GROUP BY trace_id, span_id
),
ordered AS (
    SELECT
        *,
        row_number() OVER said AS nth,
        count(input_ids) OVER (said ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) = 0 AS opens
    FROM temp.deliveries
    WHERE part = 'content'
    WINDOW said AS (
        PARTITION BY trace_id, span_id
        ORDER BY start_ns NULLS LAST, source_uri, source_line, seq, hash(input_ids), hash(output_ids)
    )
),
apart AS (
    SELECT
        trace_id, span_id,
        flatten(list(system_ids ORDER BY nth) FILTER (opens AND system_ids IS NOT NULL)) AS system_ids,
        -- A system message in the midst of a conversation stays where it is.
        flatten(list(list_concat(CASE WHEN NOT opens THEN system_ids END, input_ids) ORDER BY nth) FILTER (
            input_ids IS NOT NULL OR NOT opens AND system_ids IS NOT NULL
        )) AS input_ids,
        flatten(list(output_ids ORDER BY nth) FILTER (output_ids IS NOT NULL)) AS output_ids,
        min(start_ns) AS start_ns,
        min(seq) AS seq,
        arg_min(source_uri, nth) AS source_uri,
        arg_min(source_line, nth) AS source_line,
        arg_min(source_format, nth) AS source_format,
        max(ingested_at) AS ingested_at,
        bool_or(list_contains(flags, 'redacted')) AS redacted
    FROM ordered
    GROUP BY trace_id, span_id
),
joined AS (
    SELECT
        {joined},
        coalesce(t.kind, CASE WHEN t.span_id IS NULL THEN 'llm' ELSE 'chain' END) AS kind,
        coalesce(t.status, 'unset') AS status,
        CASE WHEN t.span_id IS NULL THEN a.start_ns ELSE t.start_ns END AS start_ns,
        CASE WHEN t.span_id IS NULL THEN a.seq ELSE t.seq END AS seq,
        CASE
            WHEN t.input_ids IS NULL AND a.input_ids IS NOT NULL AND coalesce(t.kind, 'llm') = 'llm'
                THEN coalesce(nullif(t.system_ids, []), a.system_ids)
            WHEN t.input_ids IS NULL AND t.system_ids IS NULL AND coalesce(t.kind, 'llm') = 'llm' THEN a.system_ids
            ELSE nullif(t.system_ids, [])
        END AS system_ids,
        coalesce(t.input_ids, CASE WHEN coalesce(t.kind, 'llm') = 'llm' THEN a.input_ids END) AS input_ids,
        coalesce(t.output_ids, CASE WHEN coalesce(t.kind, 'llm') = 'llm' THEN a.output_ids END) AS output_ids,
        -- Token ids spell out again what had to be redacted in the text.
        CASE WHEN NOT coalesce(a.redacted, false) THEN t.input_token_ids END AS input_token_ids,
        CASE WHEN NOT coalesce(a.redacted, false) THEN t.output_token_ids END AS output_token_ids,
        CASE WHEN NOT coalesce(a.redacted, false) THEN t.output_logprobs END AS output_logprobs,
        list_reduce(t.attributes, lambda one, other: CAST(json_merge_patch(one, other) AS VARCHAR)) AS attributes,
        coalesce(t.source_uri, a.source_uri) AS source_uri,
        CASE WHEN t.span_id IS NULL THEN a.source_line ELSE t.source_line END AS source_line,
        coalesce(t.source_format, a.source_format) AS source_format,
        t.dialect,
        t.revised_ns,
        greatest(t.ingested_at, a.ingested_at) AS ingested_at,
        list_concat(
            list_filter(coalesce(t.flags, []), lambda f: f NOT IN ('clock', 'partial')),
            CASE WHEN a.redacted THEN ['redacted'] ELSE [] END,
            CASE WHEN t.end_ns < t.start_ns THEN ['clock'] ELSE [] END,
            CASE WHEN coalesce(t.complete, false) THEN [] ELSE ['partial'] END
        ) AS flags
    FROM topmost t
    FULL JOIN apart a USING (trace_id, span_id)
)
SELECT {finished}
FROM joined
