-- Releases of candidates that were made from erased trajectories.
SELECT r.release_id, r.channel, r.bundle_id, r.bundle_uri, r.candidate_id
FROM releases r
SEMI JOIN temp.derived_candidates USING (candidate_id)
ORDER BY r.at, r.release_id
