-- What tools were given in some trajectories.
select trace_id as trajectory_id, coalesce(tool_name, name) as tool, tool_args
from spans
where trace_id in (select unnest($trajectories)) and tool_args is not null
