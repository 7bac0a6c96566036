-- Messages of one caller: those asked for, or all.
select code, role, name, parts
from temp.mined_messages
where caller = $caller and ($codes is null or code in (select unnest($codes)))
