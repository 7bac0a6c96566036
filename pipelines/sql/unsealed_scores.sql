-- The scores of the lake {catalog} without those of sealed reward models (the temporary table `sealed`).
create temp view scores as
select * from {catalog}.scores
where name not in (select name from sealed)
