"""The peer of `benchmarks/sliding_window.py`: MONAI's sliding window over its DynUNet, eager, float32."""

import argparse
import json
import sys
import time

import torch
from monai.inferers import sliding_window_inference
from monai.networks.nets import DynUNet


def main():
    """One volume a line."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--format")
    arguments.add_argument("--tiles", type=int)
    chosen = arguments.parse_args()
    torch.manual_seed(0)
    net = DynUNet(
        3, 4, 3, [3] * 4, [1, 2, 2, 2], [2] * 3, filters=(16, 32, 64, 128),
        norm_name=("instance", {"affine": True}),
    ).eval()  # fmt: skip
    image = torch.randn(1, 4, 155, 240, 240)
    if chosen.format == "channels_last_3d":
        net = net.to(memory_format=torch.channels_last_3d)
        image = image.to(memory_format=torch.channels_last_3d)
    print(json.dumps({"parameters": sum(p.numel() for p in net.parameters())}), flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        with torch.inference_mode():
            sliding_window_inference(
                image, (96, 96, 96), chosen.tiles, net, overlap=0.5, mode="gaussian"
            )
        print(json.dumps({"seconds": time.perf_counter() - begin}), flush=True)


if __name__ == "__main__":
    main()
