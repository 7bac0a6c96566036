-- Rows of the lake's tables from `planned` (one row per trajectory) and `called` (one row per tool call).
CREATE TEMP MACRO trace(i) AS 't' || lpad(CAST(i AS VARCHAR), 8, '0');
CREATE TEMP MACRO agent_named(agent) AS ['desk', 'trip', 'shop'][agent + 1];
CREATE TEMP MACRO tool_named(tool) AS
    ['search', 'lookup', 'update', 'read', 'cancel', 'pay', 'transfer', 'retrieve'][tool + 1];
CREATE TEMP MACRO syllable(h) AS
    ['ba', 'de', 'fi', 'go', 'lu', 'mi', 'no', 'pe', 'ra', 'so', 'ta', 'vu', 'ka', 'le', 'zi', 'ho', 'na', 'be', 'ro', 'ti'][1 + CAST(h % 20 AS INTEGER)];
CREATE TEMP MACRO word(h) AS syllable(h) || syllable(h // 20) || 'n';
-- What callers want in words, and a few words of their own: hardly two texts are equal.
CREATE TEMP MACRO asked(i, want) AS 'Please '
    || ['change', 'cancel', 'explain', 'move', 'repeat', 'check'][1 + want // 4] || ' the '
    || ['refund', 'parcel', 'invoice', 'password'][1 + want % 4] || ' of order K' || i || ', it is about '
    || array_to_string(list_transform(range(6), x -> word(hash(i, x))), ' ');
INSERT INTO trajectories BY NAME
SELECT trace(i) AS trajectory_id, 's' || session AS session_id, 'u' || user_no AS user_key,
    ['web', 'phone', 'mail'][1 + (task * 7 + user_no) % 3] AS service, agent_named(agent) AS agent_name,
    'g' || i AS task_group, 'learn' AS pool, CAST('1970-01-01' AS DATE) + CAST(start_ns // 86400000000000 AS INTEGER) AS day,
    start_ns, start_ns + (2 * k + 1) * 2000000000 AS end_ns,
    k + 1 AS n_llm_calls, k AS n_tool_calls, 0.002 * (k + 1) AS cost_usd, 'unset' AS outcome
FROM planned;
INSERT INTO transitions BY NAME
SELECT trace(i) AS trajectory_id, CAST(step AS INTEGER) AS step, 'l' || step AS span_id,
    'site-' || task AS site_id, agent_named(agent) AS agent_name,
    ['p' || prompt, 'q' || i] || list_transform(range(2 * step), x -> 'w' || (i + x) % 100) AS input_ids,
    CASE WHEN step = k THEN ['m' || i] ELSE ['w' || i % 100] END AS output_ids,
    ['small-1', 'small-2'][1 + i % 2] AS model, CASE WHEN step = k THEN 'stop' ELSE 'tool_calls' END AS finish_reason,
    start_ns + step * 4000000000 AS start_ns, start_ns + step * 4000000000 + 1500000000 + (i % 97) * 10000000 AS end_ns,
    2 * step AS seq, 'ok' AS status, 'desk' AS prompt_name, 'v' || prompt AS prompt_version
FROM (SELECT *, unnest(range(k + 1)) AS step FROM planned);
INSERT INTO spans BY NAME
SELECT trace(i) AS trace_id, 'c' || place AS span_id, CASE tool WHEN 7 THEN 'retriever' ELSE 'tool' END AS kind,
    tool_named(tool) AS tool_name, c.start_ns, c.start_ns + 300000000 + argument % 1000000000 AS end_ns,
    2 * place + 1 AS seq, CASE WHEN failed THEN 'error' ELSE 'ok' END AS status,
    CASE WHEN failed THEN 'ToolError' END AS error_type,
    CASE WHEN failed THEN 'record ' || argument || ' is locked by "' || md5(CAST(argument AS VARCHAR)) || '"' END AS error_message,
    CASE
        WHEN bare THEN '{"to": "A' || argument || '", "amount": ' || argument % 900 || '}'
        WHEN tool = 6 THEN '{"to": "A' || argument || '", "amount": ' || argument % 900 || ', "currency": "EUR"}'
        ELSE '{"id": "A' || argument || '", "note": "' || md5(CAST(argument AS VARCHAR)) || '", "limit": ' || argument % 50 || '}'
    END AS tool_args,
    CASE
        WHEN failed THEN NULL
        WHEN tool = 7 THEN '[{"id": "doc-' || document || '", "text": "what was found ' || argument || '"}]'
        WHEN tool % 2 = 0 THEN '{"id": "A' || argument || '", "status": "' || ['open', 'closed', 'sent'][1 + argument % 3]
            || '", "total": ' || argument % 1000 || '}'
        ELSE 'Record A' || argument || ' of customer ' || argument % 99991 || ' was read at /data/' || argument % 1000
            || '.json in ' || argument % 700 || ' ms'
    END AS tool_result
FROM (SELECT c.*, p.start_ns + c.place * 4000000000 + 2600000000 AS start_ns FROM called c JOIN planned p USING (i)) c;
INSERT INTO messages BY NAME
SELECT 'm' || i AS message_id, 'assistant' AS role,
    CASE WHEN claim THEN 'The change is in place and all tests pass now. Ticket ' || i
    ELSE 'Your request ' || i || ' has been looked at; the answer is in the attached note ' || md5(CAST(i AS VARCHAR)) END AS text
FROM planned;
INSERT INTO messages BY NAME
SELECT 'q' || i AS message_id, 'user' AS role, asked(i, want) AS text FROM planned;
INSERT INTO scores BY NAME
SELECT 'c' || i AS score_id, 'trajectory' AS target_kind, trace(i) AS target_id, 'combined' AS name,
    CASE WHEN failed THEN 0.0 ELSE 1.0 END AS value, start_ns AS "at"
FROM planned WHERE judged;
