message_id NOT IN (
    SELECT unnest(list_concat(
        coalesce(system_ids, []), coalesce(input_ids, []), coalesce(output_ids, []),
        CASE WHEN tool_definitions_id IS NULL THEN [] ELSE [tool_definitions_id] END
    ))
    FROM (
        SELECT system_ids, input_ids, output_ids, tool_definitions_id FROM spans
        UNION ALL
        SELECT system_ids, input_ids, output_ids, tool_definitions_id FROM span_parts
        UNION ALL
        SELECT NULL, NULL, NULL, tool_definitions_id FROM sites
    )
)
OR $pattern IS NOT NULL AND (regexp_matches(text, $pattern) OR regexp_matches(parts, $pattern))
