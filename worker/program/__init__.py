"""Running the user's own script on every rank."""
