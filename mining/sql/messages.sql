select message_id, any_value(role) as role, any_value(name) as name, any_value(parts) as parts
from messages
where message_id in (select unnest($ids))
group by message_id
