-- Call sites that are kept: a site stays with the call while its prompt is the same.
CREATE OR REPLACE TEMP TABLE rebuilt_sites AS
SELECT c.id, old.site_id, old.site_version
FROM temp.rebuilt_steps c
JOIN temp.rebuilt_read s ON s.rowid = c.place
JOIN transitions old
    ON old.trajectory_id = s.trace_id
   AND old.span_id = s.span_id
   AND old.system_ids IS NOT DISTINCT FROM s.system_ids
   AND old.input_ids IS NOT DISTINCT FROM s.input_ids
   AND old.tool_definitions_id IS NOT DISTINCT FROM s.tool_definitions_id
WHERE {sites} AND old.site_id IS NOT NULL
