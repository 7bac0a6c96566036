-- Those of the messages that have to be looked at and are in {source}: what a user said, and whether there are pseudonyms.
INSERT INTO temp.rebuilt_messages
SELECT
    m.message_id,
    any_value(m.text) FILTER (m.role = 'user' AND m.text <> ''),
    bool_or(a.answers AND regexp_matches(m.parts, '{pseudonym}'))
FROM {source} m
JOIN (FROM temp.rebuilt_asked ANTI JOIN temp.rebuilt_messages USING (message_id)) a ON a.message_id = m.message_id
WHERE {where}
GROUP BY m.message_id
