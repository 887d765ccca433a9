"""Colour profiles: from the wider colours of telephones and cameras to sRGB."""

import io
from functools import lru_cache

from PIL import Image, ImageCms

PROFILE = "icc_profile"
"""What Pillow calls the profile of an image in its `info`."""
MOST_PROFILES = 64
"""Transforms that are kept: images of one camera share a profile."""


def to_srgb(image: Image.Image) -> Image.Image:
    """Return an RGB image in sRGB; without a profile, or with one that cannot be used, itself."""
    profile = image.info.get(PROFILE)
    if not isinstance(profile, bytes) or image.mode != "RGB":
        return image
    transform = _transform(profile)
    if transform is None:
        return image
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None, "it is not asked to convert in place"
    converted.info.pop(PROFILE, None)  # or the next one would convert it again
    return converted


@lru_cache(MOST_PROFILES)
def _transform(profile: bytes) -> ImageCms.ImageCmsTransform | None:
    """Return what converts from a profile of RGB that is not sRGB, else None."""
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if given.profile.xcolor_space.strip() != "RGB" or "sRGB" in _description(given):
            return None
        return ImageCms.buildTransform(
            given,
            ImageCms.createProfile("sRGB"),
            "RGB",
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except Exception:  # a damaged profile: Pillow raises PyCMSError, OSError and others
        return None


def _description(profile: ImageCms.ImageCmsProfile) -> str:
    return profile.profile.profile_description or ""
