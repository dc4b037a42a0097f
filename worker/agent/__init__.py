"""The agent: the small process on each host that minds a run's workers there. Standard library, Python 3.8."""
