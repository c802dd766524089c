"""The peer of `benchmarks/hippocampus.py`: MONAI's DynUNet recipe for the same minutes and cases.

After MONAI's own tutorial for this task (Project-MONAI/tutorials, modules/dynunet_pipeline: DynUNet with
instance norm and one level of deep supervision, crops of 40 x 56 x 40 around labels, zoom, noise, blur,
intensity and flips, Dice + cross-entropy, SGD with Nesterov momentum and a polynomial schedule), with the
data cached in memory. Runs in an environment with `benchmarks/requirements.txt`; imports no medjax.
"""

import argparse
import json
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.data import CacheDataset, DataLoader, Dataset, decollate_batch
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.networks.nets import DynUNet
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    NormalizeIntensityd,
    Orientationd,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandZoomd,
    Spacingd,
    SpatialPadd,
)
from monai.utils import set_determinism

PATCH = (40, 56, 40)
BOTH = ["image", "label"]


def load(keys):
    """Files to normalised arrays at 1 mm."""
    modes = ["bilinear", "nearest"][: len(keys)]
    return [
        LoadImaged(keys=keys, image_only=True),
        EnsureChannelFirstd(keys=keys),
        Orientationd(keys=keys, axcodes="RAS", labels=None),
        Spacingd(keys=keys, pixdim=(1.0, 1.0, 1.0), mode=modes),
        NormalizeIntensityd(keys=["image"], nonzero=True, channel_wise=True),
    ]


def augment(samples):
    """The random part."""
    return [
        SpatialPadd(keys=BOTH, spatial_size=PATCH),
        RandCropByPosNegLabeld(
            keys=BOTH, label_key="label", spatial_size=PATCH, pos=2, neg=1, num_samples=samples
        ),
        RandZoomd(
            keys=BOTH,
            min_zoom=0.9,
            max_zoom=1.2,
            mode=("trilinear", "nearest"),
            align_corners=(True, None),
            prob=0.15,
        ),
        RandGaussianNoised(keys=["image"], std=0.01, prob=0.15),
        RandGaussianSmoothd(
            keys=["image"], sigma_x=(0.5, 1.15), sigma_y=(0.5, 1.15), sigma_z=(0.5, 1.15), prob=0.15
        ),
        RandScaleIntensityd(keys=["image"], factors=0.3, prob=0.15),
        *[RandFlipd(keys=BOTH, spatial_axis=[axis], prob=0.5) for axis in range(3)],
    ]


def files(root, ids):
    """Paths of the cases."""
    return [
        {
            "image": str(root / "imagesTr" / f"{i}.nii.gz"),
            "label": str(root / "labelsTr" / f"{i}.nii.gz"),
        }
        for i in ids
    ]


def main():
    """Trains for the given minutes, scores the test cases on their own grid, writes JSON."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--root", type=Path, required=True)
    arguments.add_argument("--split", type=Path, required=True)
    arguments.add_argument("--minutes", type=float, default=10.0)
    arguments.add_argument("--batch", type=int, default=4)
    arguments.add_argument("--optimizer", choices=["sgd", "adamw"], default="sgd")
    arguments.add_argument("--rate", type=float, default=0.01)
    arguments.add_argument("--width", type=int, default=32, help="filters of the first stage")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--output", type=Path, required=True)
    chosen = arguments.parse_args()
    set_determinism(chosen.seed)
    split = json.loads(chosen.split.read_text("utf-8"))
    ids = [*split["train"], *split["validation"]]  # this recipe needs no validation
    cached = CacheDataset(
        files(chosen.root, ids), Compose([*load(BOTH), *augment(1)]), progress=False
    )
    loader = DataLoader(
        cached, batch_size=chosen.batch, shuffle=True, num_workers=0, drop_last=True
    )
    net = DynUNet(
        3, 1, 3, kernel_size=[3] * 4, strides=[1, 2, 2, 2], upsample_kernel_size=[2, 2, 2],
        filters=[chosen.width * 2**stage for stage in range(4)],
        norm_name="instance", deep_supervision=True, deep_supr_num=1,
    )  # fmt: skip
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    if chosen.optimizer == "sgd":
        rule = torch.optim.SGD(
            net.parameters(), chosen.rate, momentum=0.99, weight_decay=3e-5, nesterov=True
        )
    else:
        rule = torch.optim.AdamW(net.parameters(), chosen.rate)
    limit = chosen.minutes * 60
    begin, steps, losses = time.perf_counter(), 0, []
    net.train()
    while (spent := time.perf_counter() - begin) < limit:
        for batch in loader:
            # the schedule follows the clock: it ends when the time does
            rule.param_groups[0]["lr"] = chosen.rate * max(0.0, 1 - spent / limit) ** 0.9
            rule.zero_grad()
            outputs = net(batch["image"].as_tensor())
            levels = outputs.unbind(dim=1)
            label = batch["label"].as_tensor()
            total = sum(0.5**i * loss(level, label) for i, level in enumerate(levels))
            total.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 12)
            rule.step()
            steps += 1
            losses.append(float(total))
            if (spent := time.perf_counter() - begin) >= limit:
                break
    train_seconds = time.perf_counter() - begin

    net.eval()
    prepare = Compose(load(["image"]))
    restore = Invertd(
        keys="pred", transform=prepare, orig_keys="image", nearest_interp=False, to_tensor=True
    )
    scores = []
    with torch.no_grad():
        for batch in DataLoader(Dataset(files(chosen.root, split["test"]), prepare), batch_size=1):
            batch["pred"] = sliding_window_inference(
                batch["image"], PATCH, 1, net, overlap=0.5, mode="gaussian"
            ).softmax(1)
            (one,) = [restore(item) for item in decollate_batch(batch)]
            found = one["pred"].argmax(0).numpy()
            path = batch["label"][0]
            wanted = np.asarray(nib.load(path).dataobj).astype(np.int64)
            pairs = [(found == k, wanted == k) for k in (1, 2)]
            scores.append([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs])
    means = np.mean(scores, axis=0)
    result = {
        "peer": f"MONAI DynUNet, width {chosen.width}, {chosen.optimizer} {chosen.rate:g}",
        "dice": {"Anterior": means[0], "Posterior": means[1], "mean": means.mean()},
        "cases": len(scores),
        "steps": steps,
        "batch": chosen.batch,
        "train_seconds": train_seconds,
        "threads": torch.get_num_threads(),
        "final_loss": float(np.mean(losses[-10:])),
    }
    chosen.output.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
