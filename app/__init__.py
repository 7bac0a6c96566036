"""What people and agents touch: the command line, the collector, reports. Alone reads environment and clock."""
