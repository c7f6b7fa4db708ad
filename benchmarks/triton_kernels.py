"""Registers, shared memory and spills of every Triton kernel, compiled without a GPU.

    python -m benchmarks.triton_kernels

The loss is called as in training, and each kernel that it launches is compiled for sm_80 (A100) and sm_90 (H100, H200),
but not run. What Triton specializes as constant or aligned, for example a stride of 1, depends on the arguments, so the
cases include odd ones. Takes two or three minutes; needs triton, but no GPU.
"""

import argparse
import csv
import os
import re
import subprocess
import tempfile
from pathlib import Path
from unittest import mock

os.environ.pop('TRITON_INTERPRET', None)  # interpreted kernels cannot be compiled

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from mmseg_cpg import __version__
from mmseg_cpg.ops.cpg.cross_entropy import CrossEntropy
from mmseg_cpg.ops.cpg.options import CPGOptions
from mmseg_cpg.ops.cpg.triton_autograd import triton_fused_errors, triton_squared_error

from .common import RESULTS

ARCHITECTURES = (80, 90)
USUAL = dict(
    logits=(4, 19, 1024, 2048),
    dtype='float32',
    memory_format='contiguous_format',
    label='int64',
    ksize=3,
    ignore_index=255,
    ignore_policy='exclude',
    use_sigmoid=False,
    class_weight=False,
    main_loss='',
)
BINARY = dict(logits=(4, 1, 1024, 2048), use_sigmoid=True)
CASES = [
    *(
        dict(ksize=ksize, use_sigmoid=use_sigmoid, ignore_policy=policy)
        for policy in ('exclude', 'as_background')
        for use_sigmoid in (False, True)
        for ksize in (3, 5, 7)
    ),
    *(dict(ksize=ksize) for ksize in (9, 11)),
    dict(dtype='float16'),
    dict(dtype='bfloat16'),
    dict(class_weight=True),
    dict(memory_format='channels_last'),
    dict(label='uint8'),
    dict(label='int32'),
    BINARY,
    dict(BINARY, class_weight=True),
    dict(main_loss='CE'),
    dict(main_loss='CE', ksize=7, dtype='float16', ignore_policy='as_background', class_weight=True),
    dict(main_loss='BCE', class_weight=True),
    dict(BINARY, main_loss='BCE'),
    # Nothing is aligned; sizes and ids of 1, which Triton specializes; offsets beyond 32 bits.
    dict(logits=(3, 7, 21, 37)),
    dict(logits=(1, 3, 1, 9)),
    dict(logits=(2, 3, 9, 1)),
    dict(logits=(1, 1, 1, 1), use_sigmoid=True),
    dict(ignore_index=1),
    dict(ignore_index=2**40),
    dict(logits=(1, 2**15 + 1, 2, 2)),
    dict(logits=(2, 171, 4096, 4096), dtype='float16'),
]
REGISTERS_OF_PROCESSOR, PROGRAMS_OF_PROCESSOR = 65536, 32


class AbsentGPU:
    """A driver for Triton that presents each architecture as a device."""

    def __init__(self, architecture):
        self.architecture = architecture

    def get_current_target(self):
        return GPUTarget('cuda', self.architecture, 32)

    def get_current_device(self):
        return self.architecture

    def get_current_stream(self, device):
        return 0


def compile_kernels(*, logits, dtype, memory_format, label, class_weight, main_loss, **options):
    """(name, compiled kernel) of each launch in a forward and backward."""
    compiled, run = [], JITFunction.run

    def compile_only(kernel, *arguments, warmup, **launch):
        compiled.append((kernel.fn.__name__, run(kernel, *arguments, warmup=True, **launch)))

    # Tensors that are never written to take no memory.
    batch, num_classes, *size = logits
    logits = torch.empty(logits, dtype=getattr(torch, dtype), memory_format=getattr(torch, memory_format))
    label = torch.zeros((batch, *size), dtype=getattr(torch, label))
    class_weight = torch.ones(num_classes) if class_weight else None
    case = (logits.requires_grad_(), label, CPGOptions(**options), class_weight)
    with mock.patch.object(JITFunction, 'run', compile_only), mock.patch.object(torch, '_assert_async'):
        if main_loss:
            main = CrossEntropy(main_loss == 'BCE', options['ignore_index'], class_weight, num_classes)
            main_error, _, error, _ = triton_fused_errors(*case, main, None)
            errors = [error, main_error]
        else:
            error, _ = triton_squared_error(*case, None)
            errors = [error]
        torch.autograd.grad(errors, logits, [torch.empty_like(each) for each in errors])
    return compiled


def resources(compiled):
    """Resources per thread and per program of a compiled kernel; spilled registers are on a thread's stack."""
    tool = Path(triton.__file__).parent / 'backends' / 'nvidia' / 'bin' / 'cuobjdump'
    with tempfile.NamedTemporaryFile(suffix='.cubin') as file:
        Path(file.name).write_bytes(compiled.asm['cubin'])
        usage = subprocess.run([tool, '-res-usage', file.name], capture_output=True, text=True, check=True).stdout
    registers, stack = (int(re.search(rf'\b{field}:(\d+)', usage)[1]) for field in ('REG', 'STACK'))
    threads = 32 * compiled.metadata.num_warps
    # The hardware allocates registers to a warp in units of 8 per thread.
    by_registers = REGISTERS_OF_PROCESSOR // (-(-registers // 8) * 8 * threads)
    return dict(
        num_warps=compiled.metadata.num_warps,
        registers=registers,
        spilled_bytes=stack,
        shared_bytes=compiled.metadata.shared,
        programs_per_processor=min(by_registers, PROGRAMS_OF_PROCESSOR, 2048 // threads),
    )


def measure():
    """A row for each kernel that is compiled, with the first case that needs it."""
    rows = {}
    for architecture in ARCHITECTURES:
        triton.runtime.driver.set_active(AbsentGPU(architecture))
        for case in CASES:
            case = {**USUAL, **case}
            for name, compiled in compile_kernels(**case):
                if compiled.hash not in rows:
                    row = dict(kernel=name, architecture=f'sm_{architecture}', **case, **resources(compiled))
                    rows[compiled.hash] = row
                    print(row, flush=True)
    return [*rows.values()]


def write_table(rows, out):
    """Write a row for each kernel as CSV."""
    with out.open('w', newline='') as file:
        writer = csv.DictWriter(file, ['triton', *rows[0]], lineterminator='\n')
        writer.writeheader()
        for row in rows:
            writer.writerow({'triton': triton.__version__, **row, 'logits': 'x'.join(map(str, row['logits']))})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, help='default: results/VERSION/triton_kernels.csv')
    args = parser.parse_args()
    out = args.out or RESULTS / __version__ / 'triton_kernels.csv'
    out.parent.mkdir(parents=True, exist_ok=True)
    write_table(measure(), out)
    print(f'wrote {out}')


if __name__ == '__main__':
    main()
