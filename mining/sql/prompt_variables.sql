select span_id, trace_id, prompt_variables
from spans
where prompt_variables is not null and trace_id in (select unnest($trajectory_ids))
