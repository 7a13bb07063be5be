"""Images a model was right or wrong about, with its attention on them: for who may see the images, nobody else."""
