-- What each caller's calls were sent (`wanted`: caller, code), callers one after the other. It is looked for on the days
-- of the calls; `missed_messages` looks for the rest. What was said on several days is here several times.
create or replace temp table mined_messages as
select w.caller, w.code, m.role, m.name, m.parts,
    m.role is distinct from 'system' and regexp_matches(
        coalesce(m.text, ''), '(?i)\breward\b["'']?\s*(?:[:=]|is|was)\s*-?[01](?:\.\d+)?\b'
    ) as leak
from wanted w
join temp.mined_numbers n on n.code = w.code
join messages m on m.message_id = n.message_id
where m.day is null or m.day between $first_day and $last_day
order by w.caller, w.code
