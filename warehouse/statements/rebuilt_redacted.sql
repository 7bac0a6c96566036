-- Calls whose answer holds a pseudonym: a model must not learn to say them.
CREATE OR REPLACE TEMP TABLE rebuilt_redacted AS
SELECT DISTINCT o.id
FROM (
    SELECT c.id, unnest(s.output_ids) AS message_id
    FROM temp.rebuilt_read s
    JOIN (FROM temp.rebuilt_steps WHERE redacted) c ON c.place = s.rowid
) o
JOIN temp.rebuilt_messages m USING (message_id)
WHERE m.pseudonym
