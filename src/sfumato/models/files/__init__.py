"""Files of models as they lie on a disk: read strictly, named, digested; no sampling."""
