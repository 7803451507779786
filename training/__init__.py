"""The workshop: networks, training on good parts only, evaluation."""
