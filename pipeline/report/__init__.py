"""The page that a scientist opens the morning after a run: what happened, what the networks said, where they looked."""
