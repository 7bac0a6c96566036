-- What engines logged in spans of their own below the calls.
CREATE OR REPLACE TEMP TABLE rebuilt_engine AS
SELECT c.id, s.input_token_ids, s.output_token_ids, s.output_logprobs
FROM temp.rebuilt_read s
JOIN temp.rebuilt_steps c ON c.engine_place = s.rowid
