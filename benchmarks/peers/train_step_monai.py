"""The peer of `benchmarks/train_step.py`: MONAI's DynUNet and DiceCELoss in PyTorch, eager, float32."""

import argparse
import json
import sys
import time

import torch
from monai.losses import DiceCELoss
from monai.networks.nets import DynUNet


def numbers(text):
    """Whole numbers between commas."""
    return tuple(int(n) for n in text.split(","))


def main():
    """One step a line."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--patch", type=numbers)
    arguments.add_argument("--widths", type=numbers)
    arguments.add_argument("--batch", type=int)
    arguments.add_argument("--channels", type=int)
    arguments.add_argument("--classes", type=int)
    arguments.add_argument("--format")
    chosen = arguments.parse_args()
    torch.manual_seed(0)
    stages = len(chosen.widths)
    net = DynUNet(
        3, chosen.channels, chosen.classes, [3] * stages, [1] + [2] * (stages - 1),
        [2] * (stages - 1), filters=chosen.widths, norm_name=("instance", {"affine": True}),
    )  # fmt: skip
    shape = (chosen.batch, chosen.channels, *chosen.patch)
    image = torch.randn(shape)
    if chosen.format == "channels_last_3d":
        net = net.to(memory_format=torch.channels_last_3d)
        image = image.to(memory_format=torch.channels_last_3d)
    label = torch.randint(0, chosen.classes, (chosen.batch, 1, *chosen.patch))
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    rule = torch.optim.AdamW(net.parameters(), 1e-3)
    net.train()
    facts = {
        "parameters": sum(p.numel() for p in net.parameters()),
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(facts), flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        rule.zero_grad()
        loss(net(image), label).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 12)
        rule.step()
        print(json.dumps({"seconds": time.perf_counter() - begin}), flush=True)


if __name__ == "__main__":
    main()
