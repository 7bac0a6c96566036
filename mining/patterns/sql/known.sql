-- What earlier nights found.
select * from findings where kind <> 'cluster' order by found_until_ns nulls first, q_value, finding_id
