#!/usr/bin/env python
"""Write configs/*/metafile.yaml and model-index.yml, by which mim finds the configs, from the configs' names.

Run it after adding, renaming or removing a config. No results are written: none of the configs has been trained here.
"""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
ARCHITECTURES = {
    'deeplabv3_r50': ['R-50-D8', 'DeepLabV3'],
    'deeplabv3_r101': ['R-101-D8', 'DeepLabV3'],
    'ocrnet_hr48': ['HRNetV2p-W48', 'OCRNet'],
    'lraspp_m-v3': ['M-V3-D8', 'LRASPP'],
    'mobilenet-v3-d8_lraspp': ['M-V3-D8', 'LRASPP'],
    'gradnet': ['GraDNet'],
}
DATASETS = {
    'cityscapes': 'Cityscapes',
    'ade20k': 'ADE20K',
    'cocostuff': 'COCO-Stuff 10k',
    'coco-stuff10k': 'COCO-Stuff 10k',
    'voc12aug': 'Pascal VOC 2012 + Aug',
}
# By the folder that holds a collection's metafile, its name and paper; folders named FOLDER_... belong to it, too.
COLLECTIONS = {
    'abl': ('ABL', 'Active Boundary Loss for Semantic Segmentation', 'https://arxiv.org/abs/2102.02696'),
    'cpg': (
        'CPG',
        'Convolution-based Probability Gradient Loss for Semantic Segmentation',
        'https://arxiv.org/abs/2404.06704',
    ),
    'gradnet': (
        'GraDNet',
        'Pixel-level semantic segmentation based on gradient features',
        'https://doi.org/10.1117/12.2661794',
    ),
    'locally_adaptive': (
        'Locally Adaptive Loss',
        'Locally Adaptive Learning Loss for Semantic Image Segmentation',
        'https://arxiv.org/abs/1802.08290',
    ),
    'semeda': (
        'SEMEDA',
        'SEMEDA: Enhancing Segmentation Precision with Semantic Edge Aware Loss',
        'https://arxiv.org/abs/1905.01892',
    ),
}


def collection(folder, models):
    """Return the entry of the collection whose folder this is."""
    name, title, url = COLLECTIONS[folder]
    trained_on = {model['Metadata']['Training Data'] for model in models}
    return {
        'Name': name,
        'License': 'Apache License 2.0',
        'Metadata': {'Training Data': [each for each in dict.fromkeys(DATASETS.values()) if each in trained_on]},
        'Paper': {'Title': title, 'URL': url},
        'README': f'configs/{folder}/README.md',
        'Frameworks': ['PyTorch'],
    }


def model(path):
    """Return the entry of a config.

    Raises:
        ValueError: If its name has no network or dataset of the tables above, or neither its name (4xb2) nor its header
            (4 GPUs x 2 images) says how many images make a batch.
    """
    name = path.stem
    networks = [network for network in ARCHITECTURES if name.startswith(network)]
    datasets = [dataset for key, dataset in DATASETS.items() if f'_{key}' in name]
    batch = re.search(r'_(\d+)xb(\d+)-', name) or re.search(r'(\d+) GPUs? x (\d+) image', path.read_text('utf-8'))
    if not (len(networks) == len(datasets) == 1 and batch):
        raise ValueError(
            f'{path}: expected NETWORK_DATASET_... with a network of {list(ARCHITECTURES)}, a dataset of '
            f'{list(DATASETS)} and GPUs x images'
        )
    return {
        'Name': name,
        'In Collection': next(COLLECTIONS[key][0] for key in COLLECTIONS if path.parent.name.startswith(key)),
        'Config': path.relative_to(ROOT).as_posix(),
        'Metadata': {
            'Training Data': datasets[0],
            'Batch Size': int(batch[1]) * int(batch[2]),
            'Architecture': list(ARCHITECTURES[networks[0]]),  # one list twice would become a YAML alias
        },
        'Framework': 'PyTorch',
    }


def index_files():
    """Return what each file holds, as ``{path: content}``."""
    files = {}
    folders = (folder for name in COLLECTIONS for folder in sorted((ROOT / 'configs').glob(f'{name}*')))
    for folder in folders:
        models = [model(path) for path in sorted(folder.glob('*.py'))]
        collections = [collection(folder.name, models)] if folder.name in COLLECTIONS else []
        files[folder / 'metafile.yaml'] = {**({'Collections': collections} if collections else {}), 'Models': models}
    imports = [path.relative_to(ROOT).as_posix() for path in files]
    return {**files, ROOT / 'model-index.yml': {'Import': imports}}


if __name__ == '__main__':
    for path, content in index_files().items():
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding='utf-8')
        print(f'Wrote {path.relative_to(ROOT)}')
