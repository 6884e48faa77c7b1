import numpy as np
import pytest
import torch
from PIL import Image

from dsrface.models.resize import resize_bicubic


@pytest.mark.parametrize("size", [16, 24, 32])
def test_upsample__is_pillows_bicubic(size):
    # mode F: in uint8 Pillow also clips between its two passes, which noise makes visible and faces do not
    low = np.random.default_rng(size).random((size, size), dtype=np.float32)
    wanted = np.asarray(Image.fromarray(low).resize((112, 112), Image.Resampling.BICUBIC))
    ours = resize_bicubic(torch.from_numpy(low).expand(1, 3, size, size))
    np.testing.assert_allclose(ours[0, 1].numpy(), wanted, atol=1e-5)


def test_upsample__on_a_real_face_and_unlike_torchs_default_cubic(faces_dir):
    photo = Image.open(min((faces_dir / "london").glob("*/*.jpg"))).convert("RGB")
    low = photo.resize((16, 16), Image.Resampling.BICUBIC)
    wanted = torch.from_numpy(np.array(low.resize((112, 112), Image.Resampling.BICUBIC))).float()
    tensor = torch.from_numpy(np.array(low)).permute(2, 0, 1)[None].float() / 255
    ours = resize_bicubic(tensor)[0].permute(1, 2, 0) * 255
    assert (ours.clamp(0, 255) - wanted).abs().max() < 1.5  # two roundings to uint8 in Pillow, none here
    default = (
        torch.nn.functional.interpolate(tensor, size=(112, 112), mode="bicubic")[0].permute(1, 2, 0) * 255
    )
    assert (default.clamp(0, 255) - wanted).abs().max() > 4


def test_resize__stays_fp32_under_autocast_and_shrinks_with_antialiasing():
    image = torch.rand(1, 5, 120, 120)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        small = resize_bicubic(image.bfloat16(), size_px=112)
    assert small.dtype == torch.float32
    stripes = torch.zeros(1, 1, 64, 64)
    stripes[..., ::2] = 1.0
    assert (resize_bicubic(stripes, size_px=16) - 0.5).abs().max() < 0.05
