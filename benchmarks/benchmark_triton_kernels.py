"""Registers, shared memory and spills of every Triton kernel, compiled for GPUs that need not be there.

    python benchmarks/benchmark_triton_kernels.py        writes benchmark_triton_kernels.json beside this file

Kernels are compiled for sm_80 (A100) and sm_90 (H100, H200) with the options that the package launches them with: every
kernel size of the paper, softmax and sigmoid, both void policies, and every dtype, class weight and binary logits at
ksize 3. Takes a minute or two; needs triton, and no GPU.
"""

import argparse
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

os.environ.pop('TRITON_INTERPRET', None)  # interpreted kernels cannot be compiled

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mmseg_cpg.ops import sobel_numerators, triton_kernels
from mmseg_cpg.ops.triton import BY_CLASS, STREAMING

ARCHITECTURES = (80, 90)
KSIZES = (3, 5, 7)
LAUNCHED_WITH = {
    'scan_label_kernel': STREAMING,
    'softmax_kernel': STREAMING,
    'error_kernel': BY_CLASS,
    'class_gradient_kernel': BY_CLASS,
    'gradient_kernel': STREAMING,
}
POINTERS = dict(
    label='*i64', ids='*i16', near='*i8', invalid='*i8', counted='*i8', tiles='*i8', written='*i8', entries='*i32',
    scratch='*i32', slots='*fp32', highest='*fp32', inverse_sum='*fp32', error='*fp32', grad_output='*fp32',
    folded='*fp32', shared='*fp32',
)  # fmt: skip
REGISTERS_OF_PROCESSOR, PROGRAMS_OF_PROCESSOR = 65536, 32


def variants():
    """Kernel name and the settings that it is compiled with; a kernel has those that its arguments name."""
    softmax = dict(ksize=3, sigmoid=False, exclude=True, dtype='fp32', class_weight=False, binary=False)
    for name in LAUNCHED_WITH:
        arguments = getattr(triton_kernels, name).arg_names
        chosen = [dict(softmax, ksize=ksize) for ksize in KSIZES] if 'RADIUS' in arguments else [softmax]
        if 'SIGMOID' in arguments:
            chosen += [dict(each, sigmoid=True) for each in chosen]
        if 'EXCLUDE' in arguments:
            chosen += [dict(each, exclude=False) for each in chosen]
        if 'logits' in arguments:
            chosen += [dict(softmax, dtype=dtype) for dtype in ('fp16', 'bf16')]
        if 'class_weight' in arguments:
            chosen += [dict(softmax, class_weight=True), dict(softmax, sigmoid=True, binary=True)]
        for settings in chosen:
            yield name, settings


def compile_kernel(name, architecture, *, ksize, sigmoid, exclude, dtype, class_weight, binary):
    kernel = getattr(triton_kernels, name)
    constants = dict(
        RADIUS=ksize // 2,
        DENOMINATOR=sobel_numerators(ksize)[1],
        EXCLUDE=exclude,
        SIGMOID=sigmoid,
        FIRST=int(binary),
        HAS_CLASS_WEIGHT=class_weight,
    )
    pointers = dict(POINTERS, logits=f'*{dtype}', gradient=f'*{dtype}')
    if class_weight:
        pointers['class_weight'] = '*fp32'
    else:
        constants['class_weight'] = None
    constants = {argument: value for argument, value in constants.items() if argument in kernel.arg_names}
    # Strides of images are those that exceed 32 bits first.
    signature = {
        argument: pointers.get(argument)
        or ('constexpr' if argument in constants else 'i64' if argument.endswith('_b') else 'i32')
        for argument in kernel.arg_names
    }
    source = ASTSource(
        kernel,
        signature=signature,
        constexprs={(kernel.arg_names.index(argument),): value for argument, value in constants.items()},
    )
    return triton.compile(source, target=GPUTarget('cuda', architecture, 32), options=LAUNCHED_WITH[name])


def resources(compiled):
    """Registers and bytes of stack (spilled registers) of a thread, and bytes of shared memory of a program."""
    tool = Path(triton.__file__).parent / 'backends' / 'nvidia' / 'bin' / 'cuobjdump'
    with tempfile.NamedTemporaryFile(suffix='.cubin') as file:
        Path(file.name).write_bytes(compiled.asm['cubin'])
        usage = subprocess.run([tool, '-res-usage', file.name], capture_output=True, text=True, check=True).stdout
    registers, stack = (int(re.search(rf'\b{field}:(\d+)', usage)[1]) for field in ('REG', 'STACK'))
    return dict(registers=registers, spilled_bytes=stack, shared_bytes=compiled.metadata.shared)


def measure():
    rows = []
    for name, settings in variants():
        for architecture in ARCHITECTURES:
            row = dict(kernel=name, architecture=f'sm_{architecture}', **settings, **LAUNCHED_WITH[name])
            row.update(resources(compile_kernel(name, architecture, **settings)))
            threads = 32 * row['num_warps']
            # The hardware gives registers to a warp in units of 8 a thread.
            by_registers = REGISTERS_OF_PROCESSOR // (-(-row['registers'] // 8) * 8 * threads)
            row['programs_per_processor'] = min(by_registers, PROGRAMS_OF_PROCESSOR, 2048 // threads)
            rows.append(row)
            print(row, flush=True)
    return rows


def markdown(result):
    """The table of the README: the variants of three kernel sizes, float32, on sm_90."""
    lines = ['| kernel | ksize | registers | spilled, bytes | programs on a processor |', '|---|---|---|---|---|']
    shown = dict(sigmoid=False, exclude=True, dtype='fp32', class_weight=False, binary=False, architecture='sm_90')
    for row in result['rows']:
        if all(row[key] == value for key, value in shown.items()):
            lines.append(
                f'| `{row["kernel"]}` | {row["ksize"]} | {row["registers"]} | {row["spilled_bytes"]} '
                f'| {row["programs_per_processor"]} |'
            )
    return '\n'.join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', default=Path(__file__).with_suffix('.json'), type=Path)
    args = parser.parse_args()
    result = dict(triton=triton.__version__, rows=measure())
    args.out.write_text(json.dumps(result, indent=1) + '\n')
    print(markdown(result))


if __name__ == '__main__':
    main()
