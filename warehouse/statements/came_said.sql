-- Messages that the spans and parts of the batch refer to.
SELECT DISTINCT unnest(list_concat(
    coalesce(system_ids, []), coalesce(input_ids, []), coalesce(output_ids, []),
    CASE WHEN tool_definitions_id IS NULL THEN [] ELSE [tool_definitions_id] END
))
FROM (
    SELECT system_ids, input_ids, output_ids, tool_definitions_id FROM staged
    UNION ALL
    SELECT system_ids, input_ids, output_ids, tool_definitions_id FROM staged_parts
)
