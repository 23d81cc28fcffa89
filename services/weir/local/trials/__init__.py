"""Long trials of whole services on this machine, each a seeded command with --seconds."""
