"""Preflight: gathers the facts that a plan is made from."""
