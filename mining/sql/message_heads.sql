-- Role of each message asked for, and whether it shows the agent a reward.
select message_id, any_value(role) as role,
    bool_or(role <> 'system'
        and regexp_matches(coalesce(text, ''), '(?i)\breward\b["'']?\s*(?:[:=]|is|was)\s*-?[01](?:\.\d+)?\b')) as leak
from messages
where message_id in (select unnest($ids))
group by message_id
