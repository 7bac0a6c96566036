-- One row per distinct message, whichever days it was said on. The other views look messages up here.
SELECT
    message_id,
    any_value(role) AS role,
    any_value(name) AS name,
    any_value(parts) AS parts,
    any_value(text) AS text,
    min(day) AS first_day
FROM messages
GROUP BY message_id
