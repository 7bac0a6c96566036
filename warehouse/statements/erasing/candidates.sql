candidate_id IN (SELECT candidate_id FROM temp.derived_candidates WHERE shows_it)
