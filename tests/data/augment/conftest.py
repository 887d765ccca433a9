import pytest
import torch
import torch.nn.functional as F
from torch import Tensor


@pytest.fixture(scope="session")
def pictures() -> Tensor:
    """Smooth images, as photographs are, and the awkward ones. Shape: (48, 3, 33, 40) uint8."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (48, 3, 7, 7), generator=generator).float()
    images = F.interpolate(coarse, (33, 40), mode="bicubic").clamp(0, 255).to(torch.uint8)
    images[:6] = torch.randint(0, 256, (6, 3, 33, 40), generator=generator).to(torch.uint8)
    images[6] = 77  # one value
    images[7] = 255
    images[8] //= 3  # dark
    images[9, 1] = 3  # one flat channel
    images[10] = (images[10] > 99) * 200  # two values
    return images
