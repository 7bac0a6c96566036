-- Candidates that were made from erased trajectories.
CREATE OR REPLACE TEMP TABLE derived_candidates AS
SELECT c.candidate_id, bool_or(contains(c.artifact, t.trace_id)) AS shows_it
FROM (SELECT candidate_id, artifact, unnest(lineage) AS source FROM candidates) c
JOIN temp.erased_traces t ON t.trace_id = regexp_replace(c.source, '/[0-9]+$', '')
GROUP BY c.candidate_id
