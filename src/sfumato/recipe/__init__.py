"""Recipe: everything needed to make a picture again, as data; and the store its inputs are kept in.

Knows no models and runs nothing (that is models.replay). A recipe may come from anywhere, so it
names pictures by their hash and weights by a bare name: paths are typed by the user, here and now,
and never read from a document.
"""

from sfumato.recipe.value import Recipe

__all__ = ["Recipe"]
