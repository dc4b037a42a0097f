"""Brings home what runs leave on their hosts: logs as they grow, checkpoints as they are published, output."""
