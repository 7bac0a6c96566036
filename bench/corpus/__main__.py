"""python -m corpus, in bench/: writes the generated logs to a folder."""

import argparse
from pathlib import Path

from corpus import sessions, spans, write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--spans", type=int, default=0)
    parser.add_argument("--sessions", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    paths = write(spans(args.spans, seed=args.seed), args.folder) if args.spans else []
    if args.sessions:
        paths += write(sessions(args.sessions, seed=args.seed), args.folder, name="sessions")
    print(f"{len(paths)} files, {sum(path.stat().st_size for path in paths):,} bytes in {args.folder}")


if __name__ == "__main__":
    main()
