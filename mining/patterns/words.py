"""Words: a pattern as a sentence that a manager reads, and as one that goes into a prompt's feedback.

Text from logs stands in them quoted, on one line and of bounded length: it is data, whoever reads it.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

_LONGEST = 100
_HIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_BLANKS = re.compile(r"(?:<\*>(?:, ?| )?){2,}")
"""What differs, several times over."""
_TIMES = {1: "with one step between", 2: "with two steps between"}
_TRAITS = {
    "model": "The model is {}.",
    "provider": "The provider is {}.",
    "prompt": "The prompt is version {}.",
    "site_version": "A call is made with prompt {}.",
    "document": "Document {} is retrieved.",
    "service": "The service is {}.",
    "agent_version": "The agent's version is {}.",
}
_SIGNALS = {
    "same_call": "{} is called three times or more in a row with the same arguments.",
    "alternating_calls": "Two calls alternate without end: A, B, A, B{}.",
    "same_error": "{} fails three times or more with the same error.",
    "near_identical_calls": "{} is called four times or more in a row with nearly the same arguments.",
    "dead_end": "The episode ends with a failed call of {}.",
    "thrash": "Six or more tool calls, at most half of them different from each other.",
    "cut_off": "A model call is cut off: the context or the answer grew too long.",
    "claimed_tests": "The last answer says that tests pass, but no test was run.",
    "claimed_success": "The last answer claims success, but no tool call went well.",
}
_ADVICE = {
    "same_call": "Do not repeat a call that has been answered: use the answer, or change the arguments.",
    "alternating_calls": "Do not alternate between two calls whose answers are known already.",
    "same_error": "When a call fails twice in the same way, change the approach or say what is missing.",
    "near_identical_calls": "Do not repeat a call with slightly changed arguments: decide from what came back.",
    "dead_end": "Do not end on a failed call: recover, or tell what failed.",
    "thrash": "Keep to a plan: do not repeat calls that have been made already.",
    "cut_off": "Keep the answer and what is carried along short enough to finish.",
    "claimed_tests": "Say that tests pass only after running them and seeing the output.",
    "claimed_success": "Claim success only after a tool confirmed it; otherwise tell what failed.",
    "path": "Go there only where the task asks for it.",
}


_CLAIMS = {
    # language: that tests pass, that something was done
    "en": (
        r"(not )?(all |the )?(unit |integration )?tests? (now |all |have |has )*pass(ed|es|ing)?",
        r"(I have|I['’]ve|have been|has been|was|were) (now |just )?successfully [a-z]+ed|successfully "
        r"(booked|cancell?ed|refunded|updated|created|sent|saved|deployed|changed|completed)",
    ),
    "de": (
        r"(nicht )?(alle )?tests? (sind |laufen |wurden )?(jetzt |nun |alle )*(grün|bestanden|erfolgreich|durch)",
        r"(habe|haben|wurde|wurden|ist|sind)( [\pL\d]+){0,5} erfolgreich [\pL]+",
    ),
    "fr": (
        r"(pas )?(tous )?les tests (sont )?(maintenant |tous )*(passent|passés|réussis|réussissent|au vert)",
        r"(ai|a|ont|est|sont)( [\pL\d'’]+){1,6} avec succès",
    ),
    "es": (
        r"(no )?(todas |todos )?(las pruebas|los tests) (ya )?(pasan|pasaron|han pasado|están pasando)",
        r"(no )?(se )?(he|ha|han|hemos|fue|fueron)( [\pL\d]+){1,6} (con éxito|correctamente|exitosamente)",
    ),
    "it": (
        r"(non )?(tutti )?i test (ora )?(passano|superati|sono passati|sono superati|sono stati superati)",
        r"(non )?(ho|abbiamo|è|sono)( [\pL\d]+){1,6} (con successo|correttamente)",
    ),
    "pt": (
        r"(não |nem )?(todos )?os testes (agora )?(passam|passaram|estão passando|foram aprovados)",
        r"(não )?(foi|foram|[\pL]+ei)( [\pL\d]+){1,6} com sucesso",
    ),
    "nl": (
        r"(niet )?(alle )?tests? (slagen|slaagden|geslaagd|zijn( nu| alle)* geslaagd)",
        r"(heb|hebben|is|zijn|werd|werden)( [\pL\d]+){0,5} (succesvol|met succes) [\pL]+",
    ),
    "ja": (
        r"テスト[はがに]?(すべて|全て|全部)?(合格し|成功し|パスし|通り|通過し)(ました|ています)",
        r"(正常に|無事に?)[^。\n]{0,20}(しました|されました)",
    ),
    "zh": (
        r"[^。\n]{0,4}测试(已经|已|都|全部|均)*通过|[^。\n]{0,4}通过了?(所有|全部)(的)?测试",
        r"[^。，\n]{0,3}成功(地)?(预订|取消|退款|更新|创建|发送|保存|部署|更改|修改|提交|完成)",
    ),
}
_UNSPACED = frozenset({"ja", "zh"})
_DENIED = r"(^|[^\pL])(not|nicht|kein\w*|pas|no|non|não|nem|niet|geen)($|[^\pL])|未|没|無法|无法|不"
_TOLD = (
    "pass|ucc|ucesso|erfolgreich|bestanden|grün|durch|réussi|au vert|pasa|éxito|exitosamente|orrect|orrettamente|"
    "superati|aprovados|slaagd|slagen|テスト|正常に|無事|测试|成功"
)
"""Something of these is in whatever claims something."""


def claims() -> dict[str, str]:
    """Regular expressions of what a last answer claims (`tests` pass, something was `done`), in nine languages; of what
    denies it within what they match; and, cheaper, of what each of them needs."""

    def one(place: int) -> str:
        spaced = "|".join(said[place] for language, said in _CLAIMS.items() if language not in _UNSPACED)
        others = "|".join(said[place] for language, said in _CLAIMS.items() if language in _UNSPACED)
        return rf"(?i)(^|[^\pL])({spaced})($|[^\pL])|{others}"

    return {"tests": one(0), "done": one(1), "denied": f"(?i){_DENIED}", "told": _TOLD}


def quoted(text: str) -> str:
    """Logged text as data: on one line, of bounded length, in quotes that it cannot close."""
    plain = _HIDDEN.sub(" ", text)
    short = plain if len(plain) <= _LONGEST else plain[: _LONGEST - 1] + "…"
    return json.dumps(short, ensure_ascii=False)


def sentence(pattern: Mapping[str, Any]) -> str:
    """What happens in the episodes that have it."""
    if "signal" in pattern:
        about = f"The tool {quoted(pattern['tool'])}" if "tool" in pattern else "A tool"
        name = pattern["signal"]
        if name == "alternating_calls":
            about = f"; one of them is {quoted(pattern['tool'])}" if "tool" in pattern else ""
        if name == "dead_end":
            about = quoted(pattern["tool"]) if "tool" in pattern else "a tool"
        return _SIGNALS[name].format(about)
    if "trait" in pattern:
        return _TRAITS[pattern["trait"]].format(quoted(pattern["value"]))
    if "segment" in pattern:
        whose = "with the tag" if pattern["segment"] == "tag" else f"of {pattern['segment']}"
        return f"Callers {whose} {quoted(pattern['value'])}."
    if "cluster" in pattern:
        return f"The caller wants something about {quoted(pattern['called'] or 'what has no name yet')}."
    if "path" in pattern:
        told = "; ".join(", then ".join(_step(act) for act in way) for way in pattern.get("ways", ()))
        return f"The episode goes a way that successes hardly ever go{f', mostly here: {told}' if told else ''}."
    if "slow" in pattern:
        return f"{_subject(pattern['slow'])} takes longer than 19 of 20 times."
    if "shape" in pattern:
        return f"The tool {quoted(pattern['tool'])} is given {_shape(pattern['shape'])}."
    if "observation" in pattern:
        return f"The tool {quoted(pattern['tool'])} answers {quoted(_BLANKS.sub('<*> ', pattern['observation']))}."
    steps = [_step(one) for one in pattern["steps"]]
    if len(steps) == 1:
        return f"{steps[0][0].upper()}{steps[0][1:]}."
    told = f"{steps[0][0].upper()}{steps[0][1:]}, then " + ", then ".join(steps[1:])
    return f"{told}{', ' + _TIMES[pattern['between']] if 'between' in pattern else ''}."


def _subject(act: Mapping[str, Any]) -> str:
    if act["kind"] == "llm":
        return f"A model call at site {quoted(act['name'][:8])}" if act["name"] else "A model call"
    return f"{'The retriever' if act['kind'] == 'retriever' else 'The tool'} {quoted(act['name'])}"


def _step(act: Mapping[str, Any]) -> str:
    if act["kind"] in ("start", "end"):
        return f"the episode {'begins' if act['kind'] == 'start' else 'ends'}"
    subject = _subject(act)
    subject = subject[0].lower() + subject[1:]
    if act["failed"]:
        return f"{subject} fails"
    return f"{subject} answers" if act["kind"] == "llm" else f"{subject} is called"


def _shape(shape: str) -> str:
    if shape == "malformed":
        return "arguments that are no valid JSON"
    if shape == "text":
        return "arguments that are plain text"
    try:
        keys = json.loads(shape)
    except ValueError:
        return f"arguments shaped {quoted(shape)}"
    if isinstance(keys, dict):
        told = ", ".join(
            f"{key} ({str(kind).lower() if isinstance(kind, str) else 'nested'})" for key, kind in keys.items()
        )
        return f"the arguments {quoted(told)}" if keys else "no arguments"
    return f"arguments shaped {quoted(shape)}"


def feedback(pattern: Mapping[str, Any], *, failures_with: float, failures_without: float) -> str:
    """One sentence or two for those who write prompts."""
    rates = f"({failures_with:.0%} of such episodes fail, {failures_without:.0%} of comparable ones)"
    advice = _ADVICE.get(pattern.get("signal", "path" if "path" in pattern else ""), "")
    told = f"Seen in episodes that fail more often {rates}: {sentence(pattern)}"
    return f"{told} {advice}".strip()
