"""What each command does. Imported when the command runs, so that `tracemill --help` stays fast."""
