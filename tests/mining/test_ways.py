"""Ways: loops compared with what is as long without them, unusual ways, and claims that nothing on the way shows."""

import random
from typing import Any

import pytest
from mined_episodes import DAY, T0, Call, Log

from tracemill.mining.findings import find
from tracemill.mining.patterns import graph, items, journeys, signals, words


def confirmed(lake: Any) -> list[dict[str, Any]]:
    found = find(lake.con, night_id="n1", now_ns=T0 + 99 * DAY).findings.to_pylist()
    return [row for row in found if row["status"] == "confirmed"]


def test_a_loop_that_alone_makes_its_task_long_is_found(lake: Any) -> None:
    log, rng = Log(lake), random.Random(7)
    for i in range(500):
        # Whoever does not loop makes two calls: no episode is as long as those that do.
        loops = rng.random() < 0.2
        calls: list[Call] = [("search", {"q": i}, False)] * (5 if loops else 1)
        log.episode([*calls, ("read", {"id": i}, False)], failed=rng.random() < (0.7 if loops else 0.15))
    (found,) = [row for row in confirmed(lake) if row["kind"] in ("loop", "thrash")]
    assert found["what"].endswith("called three times or more in a row with the same arguments.")
    assert found["failures_without"] == pytest.approx(0.15, abs=0.08)


def test_calls_that_are_no_repeats_are_a_longer_way(lake: Any) -> None:
    log, rng = Log(lake), random.Random(8)
    for i in range(700):
        n = rng.randint(1, 8)
        calls: list[Call] = [("search", {"q": f"{i} {chr(97 + j) * 9}"}, False) for j in range(n)]
        log.episode(calls, failed=rng.random() < 0.09 * n)
    assert confirmed(lake) == []


def test_an_unusual_way_says_where_it_is_unusual(lake: Any) -> None:
    log, rng = Log(lake), random.Random(5)
    for i in range(700):
        calls: list[Call] = [(name, {"id": i}, False) for name in ("a", "b", "c", "d")]
        strays = rng.random() < 0.06
        if strays:
            calls[1], calls[2] = calls[2], calls[1]
        log.episode(calls, failed=rng.random() < (0.8 if strays else 0.1))
    read = journeys.read(lake.con)
    edges = graph.edges(read)
    found = items.collect(read, edges, graph.follows(read, edges)[1], at_least=5)
    (path,) = [told for told in map(found.describe, range(len(found))) if told[1] == "rare_path"]
    said = words.sentence(path[2])
    assert said == (
        "The episode goes a way that successes hardly ever go, mostly here: "
        'the tool "a" is called, then the tool "c" is called; the tool "c" is called, then the tool "b" is called.'
    )
    assert said in words.feedback(path[2], failures_with=0.8, failures_without=0.1)
    assert items.finding_id(*path) == items.finding_id(path[0], path[1], {"path": "unusual"})


CLAIMED = {
    "de": ("Alle Tests laufen jetzt durch.", "Ich habe Ihre Buchung erfolgreich storniert."),
    "fr": ("Tous les tests passent maintenant.", "Votre commande a été annulée avec succès."),
    "es": ("Todas las pruebas pasan.", "Su reserva se ha cancelado correctamente."),
    "it": ("Tutti i test passano.", "La prenotazione è stata annullata con successo."),
    "pt": ("Todos os testes passaram.", "A reserva foi cancelada com sucesso."),
    "nl": ("Alle tests slagen nu.", "Ik heb uw boeking succesvol geannuleerd."),
    "ja": ("修正しました。テストはすべて合格しました。", "予約は正常にキャンセルされました。"),
    "zh": ("已修复，所有测试都通过了。", "您的订单已成功取消。"),
}
DENIED = (
    "Not all tests pass.", "Nicht alle Tests bestanden.", "Die Buchung wurde nicht erfolgreich storniert.",
    "La commande n'a pas été annulée avec succès.", "La reserva no se ha cancelado correctamente.",
    "La prenotazione non è stata annullata con successo.", "A reserva não foi cancelada com sucesso.",
    "De boeking is niet succesvol geannuleerd.", "订单未成功取消。", "不是所有测试都通过了。",
)  # fmt: skip


def test_claims_that_nothing_shows_are_seen_in_nine_languages(lake: Any) -> None:
    log = Log(lake)
    wrong: Call = ("read", {"q": "x"}, True)
    tests = {log.episode([wrong], failed=None, said=tests) for tests, _ in CLAIMED.values()}
    done = {log.episode([wrong], failed=None, said=done) for _, done in CLAIMED.values()}
    for said in DENIED:
        log.episode([wrong], failed=None, said=said)
    found = {name: {f"t{u:06d}" for u in us.tolist()} for name, us, _ in signals.signals(journeys.read(lake.con))}
    assert found["claimed_tests"] == tests
    assert found["claimed_success"] == done
