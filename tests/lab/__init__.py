"""Hosts to play with: real sshd's on this machine, each as good as a machine of its own. See docs/lab.md."""
