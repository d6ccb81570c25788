"""One torch thread: two of them beside another busy process wait for each other."""

import torch

torch.set_num_threads(1)
