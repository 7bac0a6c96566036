-- Kept answers to some keys, and those that were kept next after the last of them, with whose values they show.
WITH asked AS MATERIALIZED (
    SELECT rowid AS place, replay_key, completion FROM replays WHERE replay_key IN (SELECT unnest($keys::VARCHAR[]))
),
-- None where an answer is so long that those next to it would not fit either.
span AS (
    SELECT max(place) AS place, least($ahead, $bytes // greatest(1, avg(length(completion)))::BIGINT) AS ahead FROM asked
),
near AS MATERIALIZED (
    SELECT replay_key, completion FROM asked
    UNION ALL
    SELECT replay_key, completion FROM replays
    WHERE rowid > (SELECT place FROM span) AND rowid <= (SELECT place + ahead FROM span)
)
SELECT replay_key, completion, traces
FROM near LEFT JOIN (
    SELECT replay_key, list(trace) AS traces FROM replay_sources SEMI JOIN near USING (replay_key) GROUP BY replay_key
) USING (replay_key)
