CREATE OR REPLACE TEMP TABLE erased_traces AS
SELECT DISTINCT trace_id FROM spans WHERE trace_id = $subject
