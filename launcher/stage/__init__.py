"""What travels to a host: our package, and the user's folder."""
