_base_ = 'mmseg::_base_/models/lraspp_m-v3-d8.py'
model = dict(pretrained='open-mmlab://contrib/mobilenet_v3_large')
