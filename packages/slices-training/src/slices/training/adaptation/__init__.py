"""Ways to adapt a pretrained encoder to a task."""
