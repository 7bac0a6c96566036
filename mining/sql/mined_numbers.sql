-- A number for each message that the mined calls were sent, in order of appearance.
create or replace temp table mined_numbers as
with sent as (
    select unnest(ids) as message_id, rowid * 4294967296 + generate_subscripts(ids, 1) as place from temp.mined_calls
),
appeared as (
    select message_id, min(place) as place from sent group by message_id
)
select message_id, row_number() over (order by place) - 1 as code
from appeared
