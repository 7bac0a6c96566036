-- Judgements of a response id (the source knew the call only by it) are judgements of the calls that gave the response.
-- Two sides, whichever came last: the batch's scores on all spans, and the batch's spans on all scores. The id of the
-- judgement of a span follows from both, so that the order of arrival makes no difference.
INSERT INTO scores ({columns})
WITH judged AS (
    SELECT n.score_id, s.span_id, s.trace_id
    FROM batch_scores n
    JOIN spans s ON s.response_id = n.target_id
    WHERE n.target_kind = 'response' AND s.kind = 'llm'
    UNION
    SELECT r.score_id, n.span_id, n.trace_id
    FROM batch_spans n
    JOIN scores r ON r.target_id = n.response_id AND r.target_kind = 'response'
    WHERE n.response_id IS NOT NULL AND n.kind = 'llm'
),
named AS (
    SELECT DISTINCT ON (left(sha256(score_id || '/' || trace_id || '/' || span_id), 32))
        left(sha256(score_id || '/' || trace_id || '/' || span_id), 32) AS new_id, score_id, span_id
    FROM judged
)
SELECT {values}
FROM named n
JOIN scores r ON r.score_id = n.score_id
WHERE NOT EXISTS (SELECT 1 FROM scores x WHERE x.score_id = n.new_id)
ORDER BY n.new_id
