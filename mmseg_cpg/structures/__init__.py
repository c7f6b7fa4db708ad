from .boundary_data import Targets, pack_boundary, unpack_boundary

__all__ = ['Targets', 'pack_boundary', 'unpack_boundary']
