"""What a hospital would use today, over the same splits; and a blend of it with a network."""
