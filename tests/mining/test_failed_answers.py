"""Mining and reward models read of a tool's answer whether it failed by one and the same pattern."""

import duckdb
import pytest

from tracemill import chat
from tracemill.mining.patterns import journeys
from tracemill.rewards.rows import statement


@pytest.mark.parametrize("pattern", [chat.FAILED_ANSWER, "^it didn't work"])
def test_mining_and_rewards_agree_on_which_answers_are_errors(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journeys, "FAILED_ANSWER", pattern)
    answers = ["  Error: no such flight", "[failed]", "It went well, no error", "it didn't work", "exitcode: 1", ""]
    with duckdb.connect() as con:
        journeys.macros(con)
        mined = con.execute("select list(tool_failed(null, null, a)) from unnest($a) t(a)", {"a": answers}).fetchone()
        rule = "regexp_matches(left(ltrim(a), 60), $error)"
        judged = con.execute(f"select list({rule}) from unnest($a) t(a)", {"a": answers, "error": pattern}).fetchone()
    assert mined == judged
    assert mined is not None
    assert set(mined[0]) == {True, False}
    for name in ("tool_steps_calls", "learned_features", "credit_calls"):
        assert "60), $error)" in statement(name)
