"""The built-in trainer: the only TensorFlow of this project."""
