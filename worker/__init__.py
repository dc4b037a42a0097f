"""Everything that runs on a host. It never imports `launcher`, and is loaded there under a private name."""
