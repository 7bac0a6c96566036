-- What was not found on the days of the calls, from wherever it is.
insert into temp.mined_messages
with missed as (
    select w.caller, w.code, n.message_id
    from wanted w
    join temp.mined_numbers n on n.code = w.code
    anti join temp.mined_messages m on m.code = w.code
),
said as (
    select message_id, min(day) as day
    from messages
    where message_id in (select message_id from missed)
    group by message_id
)
select w.caller, w.code, m.role, m.name, m.parts,
    m.role is distinct from 'system' and regexp_matches(
        coalesce(m.text, ''), '(?i)\breward\b["'']?\s*(?:[:=]|is|was)\s*-?[01](?:\.\d+)?\b'
    ) as leak
from missed w
join said s using (message_id)
join messages m on m.message_id = s.message_id and m.day is not distinct from s.day
order by w.caller, w.code
