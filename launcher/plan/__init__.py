"""(ClusterSpec, facts) → LaunchPlan: pure, immutable, printable. What `plan` prints is what `up` carries out."""
