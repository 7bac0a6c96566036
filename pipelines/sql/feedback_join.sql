-- What the keys of a feedback file name in the lake: for each key how many targets and one of them (side 'key'), and how
-- many targets that such a key could have named were not named, with a few examples (side 'lake').
WITH places AS (
    SELECT trajectory_id AS key, 'trajectory' AS target_kind, trajectory_id AS target_id, trajectory_id AS place, true AS asked
    FROM trajectories WHERE $on IN ('trace_id', 'trajectory_id')
    UNION ALL
    SELECT DISTINCT session_id, 'session', session_id, session_id, true
    FROM trajectories WHERE $on = 'session_id' AND session_id IS NOT NULL
    UNION ALL
    -- Any span may be judged; model calls are those that are asked about.
    SELECT span_id, 'span', span_id, trace_id || '/' || span_id, kind = 'llm'
    FROM spans WHERE $on = 'span_id'
    UNION ALL
    SELECT response_id, 'span', span_id, trace_id || '/' || span_id, true
    FROM spans
    WHERE $on = 'response_id' AND response_id IS NOT NULL AND kind = 'llm'
        AND NOT coalesce(list_contains(flags, 'wrapper'), false)
    UNION ALL
    SELECT tool_call_id, 'span', span_id, trace_id || '/' || span_id, true
    FROM spans WHERE $on = 'tool_call_id' AND tool_call_id IS NOT NULL AND kind = 'tool'
    UNION ALL
    SELECT task_key, 'trajectory', trajectory_id, trajectory_id, true
    FROM trajectories WHERE $on = 'task_key' AND task_key IS NOT NULL
    UNION ALL
    -- A benchmark's own name of a task, without the format that its reader puts before it.
    SELECT regexp_replace(task_key, '^[^:]+:', ''), 'trajectory', trajectory_id, trajectory_id, true
    FROM trajectories WHERE $on = 'task_key' AND task_key LIKE '%:%'
    UNION ALL
    SELECT DISTINCT json_extract_string(attributes, $path), 'trajectory', trace_id, trace_id, true
    FROM spans
    WHERE $path <> '' AND json_valid(attributes) AND json_extract_string(attributes, $path) IS NOT NULL
),
given AS (
    SELECT DISTINCT unnest($keys::varchar[]) AS key
),
named AS (
    SELECT g.key, p.target_kind, p.target_id, p.place FROM given g LEFT JOIN places p ON p.key = g.key
),
silent AS (
    SELECT DISTINCT place, target_id FROM places WHERE asked AND place NOT IN (SELECT place FROM named WHERE place IS NOT NULL)
)
SELECT 'key' AS side, key, count(DISTINCT place) AS n, any_value(target_kind) AS target_kind,
    any_value(target_id) AS target_id, NULL::varchar[] AS examples
FROM named
GROUP BY key
UNION ALL
SELECT 'lake', NULL, count(*), NULL, NULL, list_slice(list_sort(list(target_id)), 1, 3)
FROM silent
ORDER BY side, key
