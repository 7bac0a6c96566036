"""`python -m tracemill`: the command line, for where the script is not on the path."""

from tracemill.app.cli import main

main()
