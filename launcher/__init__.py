"""The coordinator: runs on your machine and never imports TensorFlow."""
