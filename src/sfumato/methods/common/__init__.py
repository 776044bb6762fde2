"""What several methods share: fields, starts from a picture, replacement, losses, cutouts."""
