"""What the supervisor decides, pure: events and a time in, instructions out. No clock, no process, no socket."""
