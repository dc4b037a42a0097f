"""What both sides agree on: states, names, messages, records and files. Standard library only, Python 3.8."""
