from .binary import binary_ids, names_by_id, void_in_place_of_class
from .boundary_data import Targets, pack_boundary, unpack_boundary

__all__ = ['Targets', 'binary_ids', 'names_by_id', 'pack_boundary', 'unpack_boundary', 'void_in_place_of_class']
