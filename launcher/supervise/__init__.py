"""The coordinator and what surrounds it; what it decides is in `core`."""
