-- What the mined calls were sent, as numbers: call after call, message after message.
with sent as (
    select unnest(ids) as message_id, rowid * 4294967296 + generate_subscripts(ids, 1) as place from temp.mined_calls
)
select n.code::integer as code
from sent
join temp.mined_numbers n using (message_id)
order by sent.place
