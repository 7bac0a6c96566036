-- The messages of a trajectory, each once, in the order in which its model calls first showed them.
WITH shown AS (
    SELECT
        trajectory_id, step,
        list_concat(coalesce(system_ids, []), coalesce(input_ids, []), coalesce(output_ids, [])) AS ids
    FROM transitions
),
places AS (
    SELECT trajectory_id, step, unnest(ids) AS message_id, generate_subscripts(ids, 1) AS place
    FROM shown
),
firsts AS (
    SELECT trajectory_id, message_id, step, place
    FROM places
    QUALIFY row_number() OVER (PARTITION BY trajectory_id, message_id ORDER BY step, place) = 1
)
SELECT
    f.trajectory_id,
    CAST(row_number() OVER (PARTITION BY f.trajectory_id ORDER BY f.step, f.place) - 1 AS INTEGER) AS turn,
    f.step AS first_step,
    f.message_id,
    any_value(m.role) AS role,
    any_value(m.name) AS name,
    any_value(m.text) AS text,
    any_value(m.parts) AS parts
FROM firsts f
-- a message is stored under each day that it was first said on: any of its rows will do
JOIN messages m ON m.message_id = f.message_id
GROUP BY f.trajectory_id, f.step, f.place, f.message_id
