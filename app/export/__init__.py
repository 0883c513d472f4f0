"""Files written from a finished run."""
