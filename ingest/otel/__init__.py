"""OpenTelemetry spans, whatever envelope they come in."""
