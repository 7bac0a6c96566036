select rowid as row, prompt_variables
from temp.mined_calls
where prompt_variables is not null and rowid in (select unnest($rows))
