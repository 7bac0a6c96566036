-- The prompt variables that were logged with the mined calls, by call.
create or replace temp table mined_variables as
select c.rowid as row, any_value(s.prompt_variables) as prompt_variables
from spans s
join temp.mined_calls c on c.trajectory_id = s.trace_id and c.span_id = s.span_id
where s.prompt_variables is not null and (s.day is null or s.day between $first_day and $last_day)
group by c.rowid
