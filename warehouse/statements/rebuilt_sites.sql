-- What is kept of the wanted steps: their call sites, with the prompts that they belong to.
CREATE OR REPLACE TEMP TABLE rebuilt_sites AS
SELECT trajectory_id, span_id, site_id, site_version, system_ids, input_ids, tool_definitions_id
FROM transitions
WHERE site_id IS NOT NULL AND trajectory_id IN (SELECT trajectory_id FROM temp.rebuilt_before)
