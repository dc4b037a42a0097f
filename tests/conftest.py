"""What holds for every test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Two noisy cores: a slow draw is no finding. The same examples on every run, so that a red CI can be seen again.
settings.register_profile("house", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")
