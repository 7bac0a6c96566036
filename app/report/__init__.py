"""What happened, for people: facts gathered from the lake, shown on a terminal and as one self-contained HTML page."""
