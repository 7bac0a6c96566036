-- The spans of traces by their ids: the quick way to one trace, because the days on which it has spans are looked up
-- first and only their files are read. All columns of `spans`.
SELECT s.*
FROM trace_days d
JOIN spans s ON s.trace_id = d.trace_id AND s.day = d.day
UNION ALL
SELECT * FROM spans WHERE day IS NULL
