"""cluster.yaml → ClusterSpec: one schema, every problem at once, each with its file and line."""
