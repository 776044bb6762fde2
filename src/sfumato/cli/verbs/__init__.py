"""The verbs, a file each: options beside the body that they are for."""
