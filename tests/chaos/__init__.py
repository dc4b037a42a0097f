"""Real training, struck at random, and a checker that trusts nobody. See docs/chaos.md."""
