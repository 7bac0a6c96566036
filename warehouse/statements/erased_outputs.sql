-- What models answered to erased cases when they were replayed.
CREATE OR REPLACE TEMP TABLE erased_outputs AS
SELECT DISTINCT output
FROM evaluations
WHERE output IS NOT NULL AND regexp_replace(case_id, '/[0-9]+$', '') IN (SELECT trace_id FROM temp.erased_traces)
