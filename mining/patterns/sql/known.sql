-- What earlier nights found: of clusters, or of everything else.
select * from findings where (kind = 'cluster') = $clusters order by found_until_ns nulls first, q_value, finding_id
