"""States, policy and machine (pure), and the coordinator, the shell around them."""
