select row, prompt_variables
from temp.mined_variables
where row in (select unnest($rows))
