"""Scripts that made what is kept in the repository."""
