-- Each text of an agent once, in an order that has nothing to do with what it says: tomorrow's is the same.
create or replace temp table mined_distinct as
select cast(row_number() over (order by drawn, agent, text) - 1 as integer) as text_no, agent, text, n_learn
from (
    select e.agent, t.text, hash(t.text) as drawn, count(*) filter (e.pool = 'learn') as n_learn
    from mined_texts t
    join mined_episodes e using (u)
    group by e.agent, t.text
)
