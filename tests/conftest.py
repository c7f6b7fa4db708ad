import os

import torch

# Without a GPU, Triton's kernels run through its interpreter. It must be said before triton is imported.
if not torch.cuda.is_available():
    os.environ['TRITON_INTERPRET'] = '1'
