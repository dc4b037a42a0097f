"""The run folder: every path, the journal, and what can be told of a run from its files."""
