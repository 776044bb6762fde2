"""What tests of training share."""

from pathlib import Path

import pytest
from PIL import Image as PILImage

from helpers.pictures import photo


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures of two shapes, one of them on its side by its EXIF note."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    photo(64, 64).save(folder / "a.png")
    photo(96, 64).save(folder / "b.png")
    turned = PILImage.Exif()
    turned[0x0112] = 6
    photo(64, 96).transpose(PILImage.Transpose.ROTATE_90).save(folder / "c.jpg", exif=turned)
    return folder
