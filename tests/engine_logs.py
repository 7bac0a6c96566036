"""OTLP logs that are hard to read in parts: traces in several files, messages apart, scores, archives, bad ones."""

import io
import json
import random
import zipfile
from pathlib import Path

from otlp_lines import span, spans, told


def write_logs(folder: Path, *, otherwise: bool = True) -> Path:
    """Files of all sizes: traces that lie in several, messages apart from their spans, scores, archives, bad ones.

    `otherwise`: what is told again is told otherwise, so that the order of the files counts.
    """
    folder.mkdir()
    noise = random.Random(0)
    for number in range(6):
        lines = []
        for trace in range(number * 8, number * 8 + 10):  # the last two are told again by the next file
            said = (noise if otherwise else random.Random(trace)).randbytes(100).hex()
            lines.append(spans(*(span(trace, child, 0, f"{said} {child}") for child in (1, 2))))
            lines.append(told(trace, 1, f"question {trace % 7} of someone{trace}@example.org"))
        lines.insert(5, "{torn in the midst\n")
        (folder / f"a{number}-children.jsonl").write_text("".join(lines))
    (folder / "b-roots.jsonl").write_text("".join(spans(span(trace, 0, None, "root")) for trace in range(52)))
    huge = [spans(span(trace, 0, None, noise.randbytes(200).hex())) for trace in range(1000, 1150)]
    (folder / "c-huge.jsonl").write_text("".join(huge) + huge[0][:-40])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(3):
            archive.writestr(f"{number}.jsonl", "".join(huge[number * 20 : number * 20 + 30]))
        archive.writestr("strange.bin", b"\x00\x01\x02" * 50)
    (folder / "d-packed.zip").write_bytes(packed.getvalue())
    (folder / "e-unknown.json").write_text('{"nobody": "knows this"}')
    (folder / "f-empty.jsonl").write_text("")
    (folder / "g-gone.jsonl").symlink_to(folder / "nowhere.jsonl")
    feedback = [{"trace_id": f"{trace:032x}", "value": trace % 2} for trace in range(40)]
    (folder / "h-feedback.jsonl").write_text("".join(json.dumps(row) + "\n" for row in feedback))
    return folder
