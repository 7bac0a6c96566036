-- What each caller's calls were sent (`wanted`: caller, code, message_id), callers one after the other. A message that
-- was said on several days is read on one of them.
create or replace temp table mined_messages as
with said as (
    select message_id, min(day) as day
    from messages
    where message_id in (select message_id from wanted)
    group by message_id
)
select w.caller, w.code, m.role, m.name, m.parts,
    m.role is distinct from 'system' and regexp_matches(
        coalesce(m.text, ''), '(?i)\breward\b["'']?\s*(?:[:=]|is|was)\s*-?[01](?:\.\d+)?\b'
    ) as leak
from wanted w
join said s using (message_id)
join messages m on m.message_id = s.message_id and m.day is not distinct from s.day
order by w.caller, w.code
