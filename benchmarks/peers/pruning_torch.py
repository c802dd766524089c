"""The peer of `benchmarks/pruning.py`: Torch-Pruning's groups of MONAI's networks.

It runs the network on an image, so the U-Net is given one of 64^3 voxels instead of 128^3: the smallest that
leaves its norms more than one voxel. The norms have no weights: Torch-Pruning 1.6.1 ends with a TypeError at
the first concatenation of those that have, as nnU-Net's.
"""

import json
import sys
import time

import torch
import torch_pruning
from monai.networks.nets import DynUNet, resnet50

WIDTHS = (32, 64, 128, 256, 320, 320)


def network(name):
    """The network and an image for it."""
    if name == "resnet":
        return resnet50(spatial_dims=2, n_input_channels=3, num_classes=1000), (1, 3, 224, 224)
    net = DynUNet(
        3, 4, 4, [3] * len(WIDTHS), [1] + [2] * (len(WIDTHS) - 1), [2] * (len(WIDTHS) - 1),
        filters=WIDTHS, norm_name=("instance", {"affine": False}),
    )  # fmt: skip
    return net, (1, 4, 64, 64, 64)


def main():
    """Finds every group once a line."""
    net, shape = network(sys.argv[1])
    image = torch.randn(shape)
    facts = {"parameters": sum(p.numel() for p in net.parameters())}
    print(json.dumps(facts), flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        graph = torch_pruning.DependencyGraph().build_dependency(net, example_inputs=image)
        groups = len(list(graph.get_all_groups()))
        found = {"seconds": time.perf_counter() - begin, "groups": groups}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
