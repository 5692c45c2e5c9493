"""One file per question, a ratio per answer."""
