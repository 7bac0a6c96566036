-- The mined calls, in order, without the text of their prompt variables.
select * exclude (prompt_variables), prompt_variables is not null as has_variables
from temp.mined_calls
order by rowid
