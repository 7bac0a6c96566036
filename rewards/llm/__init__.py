"""What reward models that ask a language model share: logged text as data, DSPy programs, interviews in portions.

`logged` reads episodes and shows them so that no instruction in a log can end its block; `asking` holds many interviews
at once; `program` (needs dspy) writes the prompts and reads the answers; `rubric`, `calibration` and `plackett_luce`
are what the judge and the ranker make of the answers.
"""
