"""Settings of the tests whose cases are drawn by hypothesis."""

from hypothesis import HealthCheck, Phase, settings

#: The same draws in every run, of any duration. Use `settings(REPRODUCIBLE, max_examples=n)`.
REPRODUCIBLE = settings(
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
