# Until epoch T', half of each epoch is drawn from Cityscapes' about 20,000 coarse images, with automatic labels (Tao et
# al., "Hierarchical Multi-Scale Attention for Semantic Segmentation"). Enable it with two lines in your config, for any
# epoch-based Cityscapes config:
#     _base_ = ['./deeplabv3_r50_cityscapes_cpg3.py', '../_base_/datasets/cityscapes_auto-labelled.py']
#     train_dataloader = _base_.pop('auto_labelled')
# T' is 150 as in the paper. For LRASPP it is 175, with a third line: train_dataloader.sampler.switch_epoch = 175
auto_labelled = dict(
    dataset=dict(
        type='mmseg_cpg.AutoLabelledCityscapesDataset',
        data_prefix=dict(
            auto_img_path='leftImg8bit/train_extra',  # leftImg8bit_trainextra.zip of Cityscapes
            auto_seg_map_path='refinement_final/train_extra',  # refinement_final_v0.zip, as it is
        ),
    ),
    sampler=dict(type='mmseg_cpg.AutoLabelledSampler', switch_epoch=150),
)
