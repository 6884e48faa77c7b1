"""Every family of transforms, random ones above all: two readings of an item may agree by luck."""

from __future__ import annotations

import numpy as np
import torch
from declare import fault, healthy
from inputs import Rows, image
from torch.utils.data import DataLoader, default_collate


class Images(Rows):
    """RGB images of 64 pixels and labels of ten classes."""

    length = 300

    def __init__(self, transform):
        self.transform = transform

    def __getitem__(self, index):
        return self.transform(image(index)), index % 10


def v1(*names_and_steps):
    from torchvision import transforms

    return Images(transforms.Compose([*names_and_steps, transforms.ToTensor()]))


def v2(*steps):
    from torchvision.transforms import v2 as transforms

    return Images(
        transforms.Compose([transforms.ToImage(), *steps, transforms.ToDtype(torch.float32, scale=True)])
    )


@healthy(plain="random")
def v1_flips():
    """RandomHorizontalFlip and RandomVerticalFlip: four outcomes."""
    from torchvision import transforms as t

    return v1(t.RandomHorizontalFlip(), t.RandomVerticalFlip())


@healthy(plain="random")
def v1_crops():
    """RandomCrop, RandomResizedCrop"""
    from torchvision import transforms as t

    return v1(t.RandomCrop(56, padding=4), t.RandomResizedCrop(48))


@healthy(plain="random")
def v1_colour():
    """ColorJitter, RandomGrayscale, RandomInvert, RandomPosterize, RandomSolarize, RandomEqualize, RandomAutocontrast"""
    from torchvision import transforms as t

    return v1(
        t.ColorJitter(0.4, 0.4, 0.4, 0.1),
        t.RandomGrayscale(0.2),
        t.RandomInvert(0.1),
        t.RandomPosterize(4, 0.1),
        t.RandomSolarize(128, 0.1),
        t.RandomEqualize(0.1),
        t.RandomAutocontrast(0.1),
    )


@healthy(plain="random")
def v1_geometry():
    """RandomRotation, RandomAffine, RandomPerspective, ElasticTransform"""
    from torchvision import transforms as t

    return v1(
        t.RandomRotation(10),
        t.RandomAffine(5, (0.1, 0.1)),
        t.RandomPerspective(0.3, 0.3),
        t.ElasticTransform(20.0),
    )


@healthy(plain="random")
def v1_policies():
    """AutoAugment, RandAugment, TrivialAugmentWide, AugMix by RandomChoice"""
    from torchvision import transforms as t

    return v1(t.RandomChoice([t.AutoAugment(), t.RandAugment(), t.TrivialAugmentWide(), t.AugMix()]))


@healthy(plain="random")
def v1_rare():
    """RandomApply with p=0.02: nearly always nothing happens."""
    from torchvision import transforms as t

    return v1(t.RandomApply([t.GaussianBlur(3)], p=0.02))


@healthy(plain="random")
def v1_erasing():
    """RandomErasing after ToTensor"""
    from torchvision import transforms as t

    return Images(t.Compose([t.ToTensor(), t.RandomErasing(0.5)]))


@healthy()
def v1_fixed():
    """Resize, CenterCrop, FiveCrop, Normalize: nothing random"""
    from torchvision import transforms as t

    return Images(
        t.Compose([t.Resize(48), t.CenterCrop(40), t.ToTensor(), t.Normalize([0.5] * 3, [0.25] * 3)])
    )


@healthy(plain="random")
def v2_flips():
    """One coin flip alone."""
    from torchvision.transforms import v2 as t

    return v2(t.RandomHorizontalFlip())


@healthy(plain="random")
def v2_crops():
    """RandomResizedCrop, RandomZoomOut, ScaleJitter to one size"""
    from torchvision.transforms import v2 as t

    return v2(t.RandomZoomOut(), t.ScaleJitter((64, 64)), t.RandomResizedCrop(48, antialias=True))


@healthy(plain="random")
def v2_colour():
    """ColorJitter, RandomPhotometricDistort, RandomChannelPermutation, RandomAdjustSharpness"""
    from torchvision.transforms import v2 as t

    return v2(
        t.ColorJitter(0.3, 0.3),
        t.RandomPhotometricDistort(),
        t.RandomChannelPermutation(),
        t.RandomAdjustSharpness(2),
    )


@healthy(plain="random")
def v2_geometry():
    """RandomAffine, RandomPerspective, ElasticTransform, RandomRotation"""
    from torchvision.transforms import v2 as t

    return v2(t.RandomAffine(5), t.RandomPerspective(0.3), t.ElasticTransform(), t.RandomRotation(5))


@healthy(plain="random")
def v2_policies():
    """RandAugment, AugMix, JPEG, GaussianNoise"""
    from torchvision.transforms import v2 as t

    return v2(t.RandAugment(), t.AugMix(), t.JPEG((50, 90)))


@healthy(plain="random")
def v2_choice():
    """RandomChoice, RandomOrder, RandomApply"""
    from torchvision.transforms import v2 as t

    return v2(
        t.RandomChoice([t.Grayscale(3), t.Identity()]),
        t.RandomOrder([t.RandomInvert(), t.RandomSolarize(0.5)]),
        t.RandomApply([t.GaussianBlur(3)], 0.1),
    )


class MixAfter:
    """CutMix or MixUp on the batch."""

    def __init__(self):
        from torchvision.transforms import v2 as t

        self.mix = t.RandomChoice([t.CutMix(num_classes=10), t.MixUp(num_classes=10)])

    def __call__(self, items):
        return self.mix(*default_collate(items))


@healthy(plain="random")
def v2_mix_in_collate():
    """CutMix and MixUp in the collate function, as torchvision's page shows."""
    return v2(), {"collate_fn": MixAfter()}


class Boxes(Rows):
    length = 300

    def __init__(self):
        from torchvision.transforms import v2 as t

        self.transform = t.Compose(
            [t.RandomHorizontalFlip(), t.RandomResizedCrop(48), t.SanitizeBoundingBoxes()]
        )

    def __getitem__(self, index):
        from torchvision import tv_tensors

        boxes = tv_tensors.BoundingBoxes([[4, 4, 60, 60]], format="XYXY", canvas_size=(64, 64))
        pixels = tv_tensors.Image(torch.from_numpy(np.array(image(index))).permute(2, 0, 1))
        return self.transform(pixels, {"boxes": boxes, "labels": torch.tensor([index % 10])})


def as_pairs(items):
    return tuple(zip(*items, strict=True))


@healthy(plain="random")
def detection_with_boxes():
    """tv_tensors with boxes through as_pairs, as for detection."""
    return Boxes(), {"collate_fn": as_pairs}


class Albumentations(Images):
    def __getitem__(self, index):
        pixels = self.transform(image=np.asarray(image(index)))["image"]
        return torch.from_numpy(np.ascontiguousarray(pixels)), index % 10


def oriented(**options):
    import albumentations as a

    return a.Compose([a.HorizontalFlip(), a.RandomBrightnessContrast(), a.Affine(rotate=(-5, 5))], **options)


@fault(
    "ds.rng",
    where=r"dataset\.transform",
    fix="seed",
    is_silent=True,
    plain="twins",
    needs=("albumentations", "cv2"),
)
def albumentations_without_seed():
    """albumentations 2.0.8 without a seed: each epoch's workers repeat it. albumentations-team/AlbumentationsX#266"""
    return Albumentations(oriented())


@fault(
    "ds.rng",
    where=r"dataset\.transform",
    fix="seed",
    is_silent=True,
    plain="twins",
    needs=("albumentations", "cv2"),
)
def albumentations_choice():
    """The same of OneOf, CoarseDropout, RandomCrop"""
    import albumentations as a

    choice = a.OneOf([a.GaussNoise(), a.ToGray()])
    return Albumentations(a.Compose([choice, a.CoarseDropout(), a.RandomCrop(48, 48)]))


@fault(
    "ds.rng",
    where=r"dataset\.transform",
    fix="seed",
    is_silent=True,
    plain="twins",
    needs=("albumentations", "cv2"),
)
def albumentations_with_seed():
    """With a seed all workers of 2.0.8 draw alike too. albumentations-team/albumentations#2561"""
    return Albumentations(oriented(seed=137))


def reseed(worker_id):
    from torch.utils.data import get_worker_info

    get_worker_info().dataset.transform.set_random_seed(torch.initial_seed() % 2**32)


@healthy(plain="random", needs=("albumentations", "cv2"))
def albumentations_seeded_in_worker():
    """Without a seed, but worker_init_fn sets one for each worker."""
    return Albumentations(oriented()), {"worker_init_fn": reseed}


class Kornia(Images):
    def __getitem__(self, index):
        pixels = torch.from_numpy(np.array(image(index))).permute(2, 0, 1).float() / 255
        return self.transform(pixels).squeeze(0), index % 10


@healthy(plain="random", needs=("kornia",))
def kornia_augmentations():
    """kornia's flips and colour jitter on single images"""
    import kornia.augmentation as k

    return Kornia(torch.nn.Sequential(k.RandomHorizontalFlip(), k.ColorJiggle(0.1, 0.1, 0.1, 0.1)))


@healthy(plain="random", needs=("kornia",))
def kornia_policy():
    """kornia's RandomAffine and RandomErasing with p"""
    import kornia.augmentation as k

    return Kornia(torch.nn.Sequential(k.RandomAffine(5.0, p=0.5), k.RandomErasing(p=0.3)))


class TwoViews:
    """Two random views of one image, as for contrastive learning."""

    def __init__(self, transform):
        self.transform = transform

    def __call__(self, value):
        return self.transform(value), self.transform(value)


@healthy(plain="random")
def two_views():
    """Two views of one image."""
    from torchvision import transforms as t

    return Images(TwoViews(t.Compose([t.RandomResizedCrop(32), t.RandomHorizontalFlip(), t.ToTensor()])))


@healthy(plain="random")
def folder_of_images():
    """torchvision's ImageFolder with a coin flip."""
    import pathlib
    import tempfile

    from torchvision import datasets
    from torchvision import transforms as t

    root = pathlib.Path(tempfile.mkdtemp())
    for n in range(120):
        (root / f"class{n % 3}").mkdir(exist_ok=True)
        image(n).save(root / f"class{n % 3}" / f"{n}.jpg")
    return datasets.ImageFolder(root, t.Compose([t.RandomHorizontalFlip(), t.ToTensor()]))


@healthy(plain="random")
def loader_of_images():
    """A shuffling DataLoader of flipped images."""
    from torchvision import transforms as t

    return DataLoader(v1(t.RandomHorizontalFlip()), 16, shuffle=True, drop_last=True)
