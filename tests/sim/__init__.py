"""Supervisor and agents together in a simulated world: docs/simulation.md tells what is real in it and what is not."""
