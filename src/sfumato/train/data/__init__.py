"""Training pictures: packed sets and folders, captions that combine words, composed batches."""
