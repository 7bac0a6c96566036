-- Those of the distinct texts that are asked for (`asked_texts`), in their order.
select agent, text, n_learn from mined_distinct where text_no in (select text_no from asked_texts) order by text_no
