"""What several methods share: replacement of kept parts, cutouts, losses as guides."""
