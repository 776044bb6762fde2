"""The HTTP face: routes, errors, who may come in, the document that describes them."""
