-- Role of each message, and whether it shows the agent a reward.
select distinct code, role, leak
from temp.mined_messages
