"""The public language of Orderstream. Services share this package and nothing else."""
