select * from clusters where kind = $kind order by cluster_id
