"""What a person sees: live screen, tables, report, curves."""
