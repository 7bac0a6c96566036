-- So many of the distinct texts, in their order.
select agent, text, n_learn from mined_distinct where text_no >= $first and text_no < $last order by text_no
