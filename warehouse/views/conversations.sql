-- The messages of a trajectory, each once, in the order in which its model calls first showed them.
SELECT
    t.trajectory_id,
    CAST(row_number() OVER (PARTITION BY t.trajectory_id ORDER BY g.step, g.place) - 1 AS INTEGER) AS turn,
    g.step AS first_step,
    g.message_id, g.role, g.name, g.text, g.parts
FROM (SELECT DISTINCT trajectory_id FROM transitions) t
-- Lateral, so that messages are looked up for the trajectories that a query asks for.
JOIN LATERAL (
    WITH shown AS (
        SELECT
            c.step, c.day,
            list_concat(coalesce(c.system_ids, []), coalesce(c.input_ids, []), coalesce(c.output_ids, [])) AS ids
        FROM transitions c
        WHERE c.trajectory_id = t.trajectory_id
    ),
    places AS (
        SELECT step, day, unnest(ids) AS message_id, generate_subscripts(ids, 1) AS place FROM shown
    ),
    firsts AS (
        SELECT
            message_id,
            min({'step': step, 'place': place}) AS shown_at,
            arg_min(day, {'step': step, 'place': place}) AS day
        FROM places
        GROUP BY message_id
    ),
    -- The day of the call is where its messages are, so that few days' files are read for few calls. Those that are not
    -- there (undated or told in parts) are looked for everywhere.
    near AS (
        SELECT f.shown_at, f.message_id, m.role, m.name, m.text, m.parts
        FROM firsts f
        JOIN messages m ON m.message_id = f.message_id AND m.day = f.day
    ),
    said AS (
        SELECT * FROM near
        UNION ALL
        SELECT f.shown_at, f.message_id, any_value(m.role), any_value(m.name), any_value(m.text), any_value(m.parts)
        FROM (
            SELECT f.shown_at, f.message_id
            FROM firsts f
            LEFT JOIN near n ON n.message_id = f.message_id
            WHERE n.message_id IS NULL
        ) f
        JOIN messages m ON m.message_id = f.message_id
        GROUP BY f.shown_at, f.message_id
    )
    SELECT shown_at.step AS step, shown_at.place AS place, message_id, role, name, text, parts FROM said
) g ON true
